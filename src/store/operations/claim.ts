/** Takes free blocks out of a link's pool for callers in their order. */
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
}

/**
 * Chooses and locks free blocks; the caller changes their state in the same transaction.
 * The own half goes first and from its old end, the other half from its young end: there the two masters of a link meet last.
 *
 * @returns for each claim its blocks, or `undefined` when there were too few.
 */
export async function claim(work: Work, claims: readonly Claim[]): Promise<(FreeBlock[] | undefined)[]> {
  const results = new Array<FreeBlock[] | undefined>(claims.length);
  for (const places of byPool(claims)) {
    const { link, fromFarEnd } = claims[places[0]!]!;
    const wanted = places.reduce((sum, place) => sum + claims[place]!.blocks, 0);
    const pool = await freeBlocksInOrder(work, link, wanted, fromFarEnd === true);
    let next = 0;
    for (const place of places) {
      const { blocks } = claims[place]!;
      if (pool.length - next < blocks) continue; // a smaller claim behind it may still be met
      results[place] = pool.slice(next, next + blocks);
      next += blocks;
    }
  }
  return results;
}

function byPool(claims: readonly Claim[]): number[][] {
  const pools = new Map<string, number[]>();
  claims.forEach(({ link, fromFarEnd }, place) => {
    const pool = `${link.id}/${fromFarEnd === true}`;
    const places = pools.get(pool);
    if (places === undefined) pools.set(pool, [place]);
    else places.push(place);
  });
  return [...pools.values()];
}

async function freeBlocksInOrder(work: Work, link: Link, wanted: number, fromFarEnd: boolean) {
  const own = { half: link.ownHalf, order: "asc" } as const;
  const other = { half: 1 - link.ownHalf, order: "desc" } as const;
  const order = fromFarEnd ? [{ ...other, order: "asc" }, { ...own, order: "desc" }] as const : [own, other];
  const blocks: FreeBlock[] = [];
  for (const { half, order: direction } of order) {
    if (blocks.length === wanted) break;
    const rows = await work.dialect.skipLocked(
      work.trx.selectFrom("blocks").select(["seq", "block_id", "bits"])
        .where("link_id", "=", link.id).where("state", "=", BlockState.free).where("half", "=", half)
        .orderBy("seq", direction).limit(wanted - blocks.length),
    ).execute();
    blocks.push(...rows);
  }
  return blocks;
}
