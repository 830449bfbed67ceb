/** Heartbeats of the processes that share a database. */
import type { Store } from "../store/store.ts";

const INGESTION = "ingestion";

export interface Heartbeat {
  /** Whether this process is the one that ingests key files. */
  readonly mayIngest: boolean;
  close(): Promise<void>;
}

/**
 * Renews the lease of this process now, and then four times per lease.
 *
 * @param leaseSeconds length of the lease.
 * @throws StoreUnavailable when the first renewal fails.
 */
export async function startHeartbeat(
  store: Pick<Store, "renewLease">,
  leaseSeconds: number,
): Promise<Heartbeat> {
  const lease = leaseSeconds * 1000;
  const period = lease / 4;
  let ingestsUntil = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let running: Promise<void> | undefined;
  let closed = false;
  const renew = async () => {
    const begin = performance.now();
    const work = await store.renewLease(lease, [INGESTION]);
    // Counted from before the transaction, so that it never ends later here than in the database.
    ingestsUntil = work.includes(INGESTION) ? begin + lease : 0;
  };
  const next = () => {
    // While the store is unavailable, the lease is not renewed and ends.
    running = renew().catch(() => {}).finally(() => {
      if (!closed) timer = setTimeout(next, period);
    });
  };
  await renew();
  timer = setTimeout(next, period);
  return {
    get mayIngest() {
      return performance.now() < ingestsUntil;
    },
    async close() {
      closed = true;
      clearTimeout(timer);
      await running;
    },
  };
}
