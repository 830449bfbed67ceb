/** Takes free blocks out of links' pools for callers in their order. */
import type { Link } from "../link.ts";
import { BlockState } from "../schema.ts";
import type { Work } from "../commit_queue.ts";

export interface FreeBlock {
  readonly seq: number;
  readonly block_id: Uint8Array;
  readonly bits: Uint8Array;
}

export interface Claim {
  readonly link: Link;
  readonly blocks: number;
  /** Take from the end that is otherwise taken last: where the near end turned out to be stale. */
  readonly fromFarEnd?: boolean;
  /** Only blocks stored at or after this time, milliseconds since 1970. */
  readonly storedSince?: number;
}

/** Free blocks in the order in which they are taken; `next` is the first that nobody has. */
interface Pool {
  readonly claim: Claim;
  wanted: number;
  blocks: FreeBlock[];
  next: number;
}

/**
 * Chooses and locks free blocks; the caller changes their state in the same transaction.
 * The own half goes first and from its old end, the other half from its young end: there the two masters of a link meet last.
 *
 * @param callers for each caller its claims, met all or none.
 * @returns for each caller the blocks of each of its claims, or `undefined` when there were too few.
 */
export async function claim(
  work: Work,
  callers: readonly (readonly Claim[])[],
): Promise<(FreeBlock[][] | undefined)[]> {
  const pools = new Map<string, Pool>();
  const poolOf = (claim: Claim) => {
    const key = `${claim.link.id}/${claim.fromFarEnd === true}/${claim.storedSince ?? ""}`;
    let pool = pools.get(key);
    if (pool === undefined) pools.set(key, pool = { claim, wanted: 0, blocks: [], next: 0 });
    return pool;
  };
  for (const claims of callers) for (const claim of claims) poolOf(claim).wanted += claim.blocks;
  const taken = new Set<number>();
  for (const pool of pools.values()) pool.blocks = await freeBlocksInOrder(work, pool.claim, pool.wanted);
  const shared = pools.size > 1;
  return callers.map((claims) => {
    const parts: FreeBlock[][] = [];
    for (const claim of claims) {
      const pool = poolOf(claim);
      // Pools of one link overlap where they differ in the end they start from, or in age.
      if (shared) pool.blocks = pool.blocks.filter((block, i) => i < pool.next || !taken.has(block.seq));
      if (pool.blocks.length - pool.next < claim.blocks) { // a smaller caller behind may still be served
        for (const part of parts) for (const block of part) taken.delete(block.seq);
        claims.slice(0, parts.length).forEach((earlier) => poolOf(earlier).next -= earlier.blocks);
        return undefined;
      }
      const part = pool.blocks.slice(pool.next, pool.next += claim.blocks);
      if (shared) { for (const block of part) taken.add(block.seq); }
      parts.push(part);
    }
    return parts;
  });
}

async function freeBlocksInOrder(work: Work, { link, fromFarEnd, storedSince }: Claim, wanted: number) {
  const own = { half: link.ownHalf, order: "asc" } as const;
  const other = { half: 1 - link.ownHalf, order: "desc" } as const;
  const order = fromFarEnd ? [{ ...other, order: "asc" }, { ...own, order: "desc" }] as const : [own, other];
  const blocks: FreeBlock[] = [];
  for (const { half, order: direction } of order) {
    if (blocks.length === wanted) break;
    let query = work.trx.selectFrom("blocks").select(["seq", "block_id", "bits"])
      .where("link_id", "=", link.id).where("state", "=", BlockState.free).where("half", "=", half)
      .orderBy("seq", direction).limit(wanted - blocks.length);
    if (storedSince !== undefined) query = query.where("stored_at", ">=", storedSince);
    blocks.push(...await work.dialect.skipLocked(query).execute());
  }
  return blocks;
}
