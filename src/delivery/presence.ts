/** Signs of life among the processes that share a database. */
import type { Store } from "../store/store.ts";

/** Milliseconds for which a sign of life counts; clocks of the hosts must agree to a few seconds. */
const LEASE_MS = 15_000;

const PERIOD_MS = 4000;

const INGESTION = "ingestion";

export interface Presence {
  /** Whether this process is the one that takes up key files. */
  readonly mayIngest: boolean;
  close(): Promise<void>;
}

/**
 * Gives the first sign of life, then one every few seconds.
 *
 * @throws StoreUnavailable when the first cannot be given.
 */
export async function startPresence(store: Pick<Store, "signOfLife">): Promise<Presence> {
  let ingestsUntil = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let running: Promise<void> | undefined;
  let closed = false;
  const sign = async () => {
    const begin = Date.now();
    const work = await store.signOfLife(LEASE_MS, [INGESTION]);
    // Counted from before the transaction, so that it never lasts longer here than there.
    ingestsUntil = work.includes(INGESTION) ? begin + LEASE_MS : 0;
  };
  const next = () => {
    // Where the store is away, the lease ends by itself.
    running = sign().catch(() => {}).finally(() => {
      if (!closed) timer = setTimeout(next, PERIOD_MS);
    });
  };
  await sign();
  timer = setTimeout(next, PERIOD_MS);
  return {
    get mayIngest() {
      return Date.now() < ingestsUntil;
    },
    async close() {
      closed = true;
      clearTimeout(timer);
      await running;
    },
  };
}
