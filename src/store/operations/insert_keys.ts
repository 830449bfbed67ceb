/** Records keys and who may read them. */
import { Buffer } from "node:buffer";
import type { KeyIdBytes } from "../../model/block.ts";
import type { KmeId, SaeId } from "../../model/ids.ts";
import { buffer } from "../bytes.ts";
import type { Work } from "../commit_queue.ts";
import { insertRows } from "../statements.ts";
import type { LinkTransaction } from "./voided.ts";

export interface NewKey {
  readonly id: KeyIdBytes;
  /** The KME whose SAE asked for the key. */
  readonly origin: KmeId;
  readonly master: SaeId;
  readonly slaves: readonly SaeId[];
  /** Absent where no slave reads the key here: only the fact that it was handed out is kept. */
  readonly bits?: Uint8Array;
  /** Milliseconds since 1970. */
  readonly expiresAt: number;
  /** The neighbour's transaction that made the key. */
  readonly transaction?: LinkTransaction;
  /** The blocks that the key is made of, where that can be taken back. */
  readonly composition?: readonly KeyIdBytes[];
}

export async function insertKeys(work: Work, keys: readonly NewKey[]): Promise<void> {
  const { now } = work;
  const rows = keys.map((key) => ({
    key_id: buffer(key.id),
    origin_kme: key.origin,
    master_sae: key.master,
    created_at: now,
    expires_at: key.expiresAt,
    bits: key.bits === undefined ? null : buffer(key.bits),
    transaction_id: key.transaction === undefined ? null : buffer(key.transaction.id),
    link_id: key.transaction?.linkId ?? null,
    blocks: key.composition === undefined ? null : Buffer.concat(key.composition),
  }));
  const slaves = keys.flatMap((key) =>
    key.slaves.map((sae) => ({ key_id: buffer(key.id), sae_id: sae, read_at: null }))
  );
  await insertRows(work, "keys", rows);
  await insertRows(work, "key_slaves", slaves);
}
