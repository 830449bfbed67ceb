/** A key whose slaves are all SAEs of this KME: free blocks become a key waiting for them, in one step. */
import type { KeyIdBytes } from "../../domain/block.ts";
import type { KmeId, SaeId } from "../../domain/ids.ts";
import type { Operation } from "../work.ts";
import { blocksPerKey, composeBits, isWholeBlock, type Key } from "../../domain/key.ts";
import type { Link } from "../../domain/link.ts";
import { claim } from "./claim.ts";
import { chunks } from "../../domain/chunks.ts";
import { handOver, type NewDelivery } from "./hand_over.ts";

export interface Delivery {
  readonly link: Link;
  /** key_IDs of the keys, new ones. */
  readonly ids: readonly KeyIdBytes[];
  /** Bits of each key, a multiple of 8. */
  readonly size: number;
  readonly origin: KmeId;
  readonly master: SaeId;
  readonly slaves: readonly SaeId[];
  readonly expiresAt: number;
  /** Only of blocks stored at or after this time, milliseconds since 1970. */
  readonly storedSince?: number;
  /** Free blocks of the link that have to be left, because they are kept for others; absent: none. */
  readonly keep?: number;
}

/** The keys, or `undefined` when the pool holds too few blocks, or too few would be left: then nothing is taken. */
export const deliver: Operation<Delivery, Key[] | undefined> = {
  name: "deliver",
  async run(work, items) {
    const claimed = await claim(
      work,
      items.map(({ link, ids, size, storedSince, keep }) => [
        { link, blocks: ids.length * blocksPerKey(size), storedSince, keep },
      ]),
    );
    const deliveries: NewDelivery[] = [];
    const results = items.map((item, i) => {
      const blocks = claimed[i]?.[0];
      if (blocks === undefined) return undefined;
      work.stock.add(item.link.id, -blocks.length);
      const keys = [...chunks(blocks, blocksPerKey(item.size))].map((part, i) => {
        const bits = composeBits(part, item.size);
        return { id: item.ids[i]!, bits, blocks: part, whole: isWholeBlock(item.size) };
      });
      deliveries.push({
        origin: item.origin,
        master: item.master,
        slaves: item.slaves,
        expiresAt: item.expiresAt,
        keys,
      });
      return keys.map(({ id, bits }): Key => ({ id, bits }));
    });
    await handOver(work, deliveries);
    return results;
  },
};
