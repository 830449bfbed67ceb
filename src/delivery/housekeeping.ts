/** Removes expired keys, bits that were kept to repeat an answer, and blocks that a peer refused. */
import { log } from "../log.ts";
import { type KeyObserver, noopObserver } from "./key_observer.ts";
import type { Store } from "../store/store.ts";

export interface HousekeepingOptions {
  readonly store: Pick<Store, "expire" | "now">;
  readonly keyLifetimeSeconds: number;
  /** 0: no answer is repeated. */
  readonly answerRepeatSeconds: number;
  readonly interKmeTimeoutSeconds: number;
  readonly observer?: KeyObserver;
}

/** Milliseconds for which a transaction that was taken back is remembered, at least. */
const REMEMBERED_MS = 24 * 3600 * 1000;

/** Milliseconds between two rounds at most while answers may be repeated: kept bits are to be erased soon after their time. */
const KEPT_PERIOD_MS = 1000;

/** Records removed in one transaction. */
const BATCH = 1000;

/** Starts periodic rounds; the returned function stops them. */
export function startHousekeeping(options: HousekeepingOptions): () => void {
  // Longer than an activation of the peer can still be under way.
  const grace = 3000 * options.interKmeTimeoutSeconds;
  // Another KME may ask for the transaction for this long.
  const remembered = Math.max(REMEMBERED_MS, 2000 * options.keyLifetimeSeconds);
  const kept = 1000 * options.answerRepeatSeconds;
  // A tenth of a key's lifetime, within limits.
  const period = Math.min(
    kept > 0 ? KEPT_PERIOD_MS : 30_000,
    Math.max(250, Math.min(options.keyLifetimeSeconds * 100, grace)),
  );
  const observer = options.observer ?? noopObserver;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let ended = false;
  const round = async () => {
    let more = false;
    try {
      const expired = await options.store.expire({
        limit: BATCH,
        keptBefore: options.store.now() - kept,
        refusedBefore: options.store.now() - grace,
        absentBefore: options.store.now(),
        voidedBefore: options.store.now() - remembered,
      });
      more = expired.keys === BATCH || expired.erased === BATCH;
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
