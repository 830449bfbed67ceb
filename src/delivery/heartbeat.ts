/** Heartbeats of the processes that share a database. */
import type { Store } from "../store/store.ts";

const INGESTION = "ingestion";

export interface Heartbeat {
  /** Whether this process is the one that ingests key files. */
  readonly mayIngest: boolean;
  close(): Promise<void>;
}

/**
 * Sends the first heartbeat, then several in each lease.
 *
 * @param leaseSeconds for which a heartbeat counts.
 * @throws StoreUnavailable when the first cannot be sent.
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
  const beat = async () => {
    const begin = performance.now();
    const work = await store.renewLease(lease, [INGESTION]);
    // Counted from before the transaction, so that it never lasts longer here than there.
    ingestsUntil = work.includes(INGESTION) ? begin + lease : 0;
  };
  const next = () => {
    // While the store is away, the lease ends by itself.
    running = beat().catch(() => {}).finally(() => {
      if (!closed) timer = setTimeout(next, period);
    });
  };
  await beat();
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
