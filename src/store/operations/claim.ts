/** Takes free blocks from the pools of links, for callers in their order. */
import type { Link } from "../../domain/link.ts";
import { type NotNull, sql } from "kysely";
import type { Work } from "../work.ts";
import { type DamagedBlock, removeDamaged } from "../damaged_bits.ts";
import type { StoredBits } from "../encryption/bits_cipher.ts";
import { BlockState } from "../table_schema.ts";
import { run } from "../statements.ts";
import { freeBlocks, lockFreeBlocks } from "../stock.ts";

export interface FreeBlock {
  readonly seq: number;
  readonly block_id: Uint8Array;
  readonly link_id: number;
  readonly bits: Uint8Array;
}

/** A row whose bits are not opened yet. */
interface FreeRow extends Omit<FreeBlock, "bits"> {
  readonly bits: StoredBits;
}

/** A place in the order of ingestion. */
export interface Place {
  /** The first `seq` behind it. */
  readonly seq: number;
  /** Blocks before it come first, those nearest to it first; otherwise those behind it. */
  readonly backwards: boolean;
}

export interface Claim {
  readonly link: Link;
  readonly blocks: number;
  /** The blocks encrypt keys for transport; they do not become keys. */
  readonly pad?: boolean;
  /** Where the blocks are taken, whichever half they belong to. */
  readonly from?: Place;
  /** Only blocks stored at or after this time, milliseconds since 1970. */
  readonly storedSince?: number;
  /** Free blocks of the link that have to be left, because they are kept for others; absent: none. */
  readonly keep?: number;
}

/** Free blocks in the order in which they are taken. */
interface Pool {
  readonly claim: Claim;
  /** What callers want of the whole link, so that enough is left of it when another pool's callers have theirs. */
  wanted: number;
  blocks: readonly FreeRow[];
  /** The first that was not looked at. */
  next: number;
}

/**
 * Chooses and locks free blocks; the caller changes their state in the same transaction.
 * The own half goes first and beginning with the oldest blocks, the other half from the most recently added blocks: so concurrent requests at both ends collide only when stock is nearly used up.
 *
 * Blocks that are found damaged are removed from the stock, and others are chosen.
 *
 * @param callers for each caller its claims, met all or none.
 * @returns for each caller the blocks of each of its claims, or `undefined` when there were too few, or too few would be left.
 */
export async function claim(
  work: Work,
  callers: readonly (readonly Claim[])[],
): Promise<(FreeBlock[][] | undefined)[]> {
  for (;;) {
    const rows = await choose(work, callers);
    const damaged: DamagedBlock[] = [];
    const blocks = rows.map((parts) => parts?.map((part) => part.map((row) => open(work, row, damaged))));
    if (damaged.length === 0) return blocks as (FreeBlock[][] | undefined)[];
    await removeDamaged(work, damaged);
  }
}

/** The block; `undefined` if it is damaged. */
function open({ cipher }: Work, row: FreeRow, damaged: DamagedBlock[]): FreeBlock | undefined {
  const { seq, block_id, link_id } = row;
  const bits = cipher.open({ block: block_id, linkId: link_id }, row.bits);
  if (bits !== undefined) return { seq, block_id, link_id, bits };
  damaged.push({ seq, block_id, link_id, state: BlockState.free });
  return undefined;
}

/** {@linkcode claim} without opening the blocks. */
async function choose(
  work: Work,
  callers: readonly (readonly Claim[])[],
): Promise<(FreeRow[][] | undefined)[]> {
  const pools = new Map<string, Pool>();
  const wantedOfLink = new Map<number, number>();
  for (const claims of callers) {
    for (const claim of claims) {
      wantedOfLink.set(claim.link.id, (wantedOfLink.get(claim.link.id) ?? 0) + claim.blocks);
      const key = poolKey(claim);
      if (!pools.has(key)) pools.set(key, { claim, wanted: 0, blocks: [], next: 0 });
    }
  }
  for (const pool of pools.values()) {
    pool.wanted = wantedOfLink.get(pool.claim.link.id)!;
    pool.blocks = await freeBlocksInOrder(work, pool.claim, pool.wanted);
  }
  // After the blocks, as every transaction that changes the stock: so none waits for this one while it is waited for.
  const left = await lockKeptStocks(work, callers);
  // Pools of one link overlap where they differ in where they start, or in age.
  const taken = new Set<number>();
  return callers.map((claims) => {
    if (!leavesEnough(left, claims)) return undefined;
    const before = new Map<Pool, number>();
    const parts: FreeRow[][] = [];
    for (const claim of claims) {
      const pool = pools.get(poolKey(claim))!;
      if (!before.has(pool)) before.set(pool, pool.next);
      const part = take(pool, claim.blocks, taken);
      parts.push(part);
      if (part.length === claim.blocks) continue;
      // A smaller caller behind may still be served.
      for (const block of parts.flat()) taken.delete(block.seq);
      for (const [touched, next] of before) touched.next = next;
      return undefined;
    }
    for (const { link, blocks } of claims) {
      const free = left.get(link.id);
      if (free !== undefined) left.set(link.id, free - blocks);
    }
    return parts;
  });
}

/**
 * Free blocks of the links of which a caller has to leave some. Until the end of this transaction no other one changes these
 * counts, so that two of them, of whichever process, do not both take the last blocks that may be taken.
 */
async function lockKeptStocks(
  work: Work,
  callers: readonly (readonly Claim[])[],
): Promise<Map<number, number>> {
  const links = new Set(
    callers.flatMap((claims) => claims.filter(({ keep = 0 }) => keep > 0).map(({ link }) => link.id)),
  );
  const left = new Map<number, number>();
  // In the order in which a transaction changes them at its end.
  for (const link of [...links].sort((a, b) => a - b)) {
    left.set(link, await lockFreeBlocks(work, link) + work.stock.of(link));
  }
  return left;
}

function leavesEnough(left: ReadonlyMap<number, number>, claims: readonly Claim[]): boolean {
  return claims.every(({ link, blocks, keep = 0 }) => keep === 0 || left.get(link.id)! - blocks >= keep);
}

function poolKey({ link, from, storedSince }: Claim): string {
  return `${link.id}/${from?.seq ?? ""}/${from?.backwards ?? ""}/${storedSince ?? ""}`;
}

/** Up to `count` blocks of a pool that no other transaction has locked. */
function take(pool: Pool, count: number, taken: Set<number>): FreeRow[] {
  const part: FreeRow[] = [];
  while (part.length < count && pool.next < pool.blocks.length) {
    const block = pool.blocks[pool.next++]!;
    if (taken.has(block.seq)) continue;
    taken.add(block.seq);
    part.push(block);
  }
  return part;
}

/** A part of the free blocks of a link, and the order in which it is taken; parts of a group are merged. */
interface Part {
  readonly half: number;
  readonly order: "asc" | "desc";
  readonly bound?: readonly [">=" | "<", seq: number];
}

async function freeBlocksInOrder(work: Work, claim: Claim, wanted: number): Promise<FreeRow[]> {
  const blocks = await selectFree(work, claim, wanted, "skipLocked");
  if (blocks.length === wanted || work.dialect.exclusive) return blocks;
  // Other transactions may hold the remaining blocks only briefly. A request is not refused because of that: wait for them.
  if (blocks.length >= await freeBlocks(work.trx, claim.link.id)) return blocks;
  return await selectFree(work, claim, wanted, "forUpdate");
}

async function selectFree(
  work: Work,
  { link, from, storedSince }: Claim,
  wanted: number,
  lock: "skipLocked" | "forUpdate",
): Promise<FreeRow[]> {
  const [own, other] = [link.ownHalf, 1 - link.ownHalf];
  const groups: Part[][] = from === undefined
    ? [[{ half: own, order: "asc" }], [{ half: other, order: "desc" }]]
    : ([["asc", ">="], ["desc", "<"]] as const).map(([order, operator]) =>
      [own, other].map((half): Part => ({ half, order, bound: [operator, from.seq] }))
    );
  if (from?.backwards) groups.reverse();
  const blocks: FreeRow[] = [];
  for (const group of groups) {
    if (blocks.length === wanted) break;
    const age = storedSince === undefined ? [] : [storedSince];
    const limit = wanted - blocks.length;
    const found: FreeRow[] = [];
    for (const { half, order, bound } of group) {
      found.push(
        ...await run(
          work,
          `${lock} ${order} ${bound?.[0] ?? ""} ${age.length}`,
          [link.id, half, ...age, ...bound === undefined ? [] : [bound[1]], limit],
          () => {
            // The state is in the text of the statement, because the index has only free blocks.
            const query = work.trx.selectFrom("blocks").select(["seq", "block_id", "link_id", "bits"])
              .$narrowType<{ bits: NotNull }>()
              .where("link_id", "=", link.id).where("state", "=", sql.lit(BlockState.free)).where(
                "half",
                "=",
                half,
              )
              .$if(storedSince !== undefined, (query) => query.where("stored_at", ">=", storedSince!))
              .$if(bound !== undefined, (query) => query.where("seq", bound![0], bound![1]))
              .orderBy("seq", order).limit(limit);
            return work.dialect[lock](query);
          },
        ),
      );
    }
    if (group.length > 1) found.sort((a, b) => group[0]!.order === "asc" ? a.seq - b.seq : b.seq - a.seq);
    blocks.push(...found.slice(0, limit));
  }
  return blocks;
}
