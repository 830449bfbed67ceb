/** Removes expired keys, and blocks that a peer refused. */
import { log } from "../log.ts";
import { type KeyObserver, noopObserver } from "./key_observer.ts";
import type { Store } from "../store/store.ts";

export interface HousekeepingOptions {
  readonly store: Pick<Store, "expire" | "now">;
  readonly keyLifetimeSeconds: number;
  readonly interKmeTimeoutSeconds: number;
  readonly observer?: KeyObserver;
}

/** Milliseconds for which a transaction that was taken back is remembered, at least. */
const REMEMBERED_MS = 24 * 3600 * 1000;

/** Records removed in one transaction. */
const BATCH = 1000;

/** Starts periodic rounds; the returned function stops them. */
export function startHousekeeping(options: HousekeepingOptions): () => void {
  // Longer than an activation of the peer can still be under way.
  const grace = 3000 * options.interKmeTimeoutSeconds;
  // Another KME may ask for the transaction for this long.
  const remembered = Math.max(REMEMBERED_MS, 2000 * options.keyLifetimeSeconds);
  // A tenth of a key's lifetime, within limits.
  const period = Math.min(30_000, Math.max(250, Math.min(options.keyLifetimeSeconds * 100, grace)));
  const observer = options.observer ?? noopObserver;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let ended = false;
  const round = async () => {
    let more = false;
    try {
      const expired = await options.store.expire({
        limit: BATCH,
        refusedBefore: options.store.now() - grace,
        absentBefore: options.store.now(),
        voidedBefore: options.store.now() - remembered,
      });
      more = expired.keys === BATCH;
      if (expired.unread.length > 0) {
        observer.expired(expired.unread);
        log("delivery").info("{unread} keys expired unread", { unread: expired.unread.length });
      }
      if (expired.burnt > 0) {
        observer.burnt("refused", expired.burnt);
        log("delivery").warn("{burnt} blocks burnt that a peer does not have", { burnt: expired.burnt });
      }
    } catch {
      // The store reports its own failures; the next round tries again.
    }
    if (!ended) timer = setTimeout(round, more ? 0 : period);
  };
  timer = setTimeout(round, 0);
  return () => {
    ended = true;
    clearTimeout(timer);
  };
}
