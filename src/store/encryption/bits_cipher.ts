/**
 * The form in which bits of blocks and keys are stored. Bits are sealed where a row is written and opened where it is read:
 * {@linkcode StoredBits} cannot be made or used in any other way.
 */
import type { Buffer } from "node:buffer";
import { BLOCK_BYTES, type KeyIdBytes } from "../../domain/block.ts";
import { buffer, joinBytes } from "../../domain/bytes.ts";
import type { DataKeysTable } from "../table_schema.ts";
import { Aead, SEAL_BYTES } from "./aead.ts";

declare const stored: unique symbol;

/** Bits as the database has them. */
export interface StoredBits {
  readonly [stored]: true;
}

/** Bits of many rows for one statement, one after the other, `length` bytes each. In memory of their own, to be overwritten. */
export interface JoinedBits {
  readonly bytes: Buffer;
  readonly length: number;
}

/** @param bits of at least one row. Those of all rows must be equally long. */
export function joinBits(bits: readonly StoredBits[]): JoinedBits {
  const each = bits as unknown as readonly Uint8Array[];
  const { length } = each[0]!;
  return { bytes: joinBytes(each, length), length };
}

/** The row that bits belong to. Bits that were moved to another row cannot be opened. */
export type BitsOwner =
  | { readonly block: KeyIdBytes; readonly linkId: number }
  /** A key that is not exactly one block. */
  | { readonly key: KeyIdBytes; readonly linkId: number }
  /** The row of `byte_counts`: the counts before and after a file say which bytes its blocks have. */
  | "byteCounts";

/** The columns that say whose bits they are. */
export interface OwnedRow {
  readonly block_id: Uint8Array | null;
  readonly key_id: Uint8Array | null;
  readonly link_id: number;
}

export function ownerOf({ block_id, key_id, link_id }: OwnedRow): BitsOwner {
  return block_id === null ? { key: key_id!, linkId: link_id } : { block: block_id, linkId: link_id };
}

export interface BitsCipher {
  readonly encrypts: boolean;
  /** Fingerprint of the rows of `data_keys` that it was made from, see {@linkcode dataKeysFingerprint}; absent: bits can never be read again. */
  readonly madeFrom?: string;
  seal(owner: BitsOwner, bits: Uint8Array): StoredBits;
  /** The bits; `undefined` if they were altered, or are not those of this row. Not to be changed: it may be the driver's memory. */
  open(owner: BitsOwner, bits: StoredBits): Uint8Array | undefined;
}

/** Says which rows these are, and is the same for the same ones. They are encrypted, so this is no secret. */
export function dataKeysFingerprint(rows: readonly DataKeysTable[]): string {
  return rows.map(({ number, sealed_key }) => `${number} ${buffer(sealed_key).toString("hex")}`).sort().join(
    ", ",
  );
}

/** Stores bits in the clear. */
export const clearBits: BitsCipher = {
  encrypts: false,
  madeFrom: dataKeysFingerprint([]),
  seal: (_, bits) => buffer(bits) as unknown as StoredBits,
  open(owner, bits) {
    const bytes = bits as unknown as Uint8Array;
    // Encrypted bits of a block are longer. They must not be taken for a key.
    return owner !== "byteCounts" && "block" in owner && bytes.length !== BLOCK_BYTES ? undefined : bytes;
  },
};

const NUMBER_BYTES = 4;
/** By how many bytes encrypted bits are longer: the number of the data key, nonce and tag. */
export const STORED_BITS_EXTRA = NUMBER_BYTES + SEAL_BYTES;

/** Encrypts with the data key of the highest number, decrypts with all. */
export class EncryptedBits implements BitsCipher {
  readonly encrypts = true;
  readonly #keys: ReadonlyMap<number, Aead>;
  readonly #number: number;
  readonly #key: Aead;

  private constructor(keys: ReadonlyMap<number, Aead>, readonly madeFrom?: string) {
    this.#keys = keys;
    this.#number = Math.max(...keys.keys());
    this.#key = keys.get(this.#number)!;
  }

  /**
   * @param dataKeys 32 bytes each, by number; at least one. They are copied.
   * @param rows where they are from.
   */
  static async with(
    dataKeys: ReadonlyMap<number, Uint8Array>,
    rows?: readonly DataKeysTable[],
  ): Promise<EncryptedBits> {
    const keys = new Map<number, Aead>();
    for (const [number, key] of dataKeys) keys.set(number, await Aead.of(key));
    return new EncryptedBits(keys, rows && dataKeysFingerprint(rows));
  }

  seal(owner: BitsOwner, bits: Uint8Array): StoredBits {
    const sealed = buffer(this.#key.seal(bits, associatedData(owner), NUMBER_BYTES));
    sealed.writeUInt32BE(this.#number);
    return sealed as unknown as StoredBits;
  }

  open(owner: BitsOwner, bits: StoredBits): Uint8Array | undefined {
    const bytes = bits as unknown as Uint8Array;
    const number = dataKeyNumber(bits);
    const key = number === this.#number ? this.#key : this.#keys.get(number ?? -1);
    return key?.open(bytes, associatedData(owner), NUMBER_BYTES);
  }

  /** Whether the bits were sealed with the key that is used now. */
  isCurrent(bits: StoredBits): boolean {
    return dataKeyNumber(bits) === this.#number;
  }
}

/** The number of the data key; `undefined` if the bits are too short to be encrypted. */
function dataKeyNumber(bits: StoredBits): number | undefined {
  const bytes = bits as unknown as Uint8Array;
  if (bytes.length < STORED_BITS_EXTRA) return undefined;
  return ((bytes[0]! << 24) | (bytes[1]! << 16) | (bytes[2]! << 8) | bytes[3]!) >>> 0;
}

// One array, which the next call overwrites: there are two calls for each key.
const data = new Uint8Array(25);
const view = new DataView(data.buffer);

/** A byte for the kind of row, 16 of its key_ID and 8 of the number of its link. */
function associatedData(owner: BitsOwner): Uint8Array {
  if (owner === "byteCounts") {
    data.fill(0);
    return data;
  }
  const isBlock = "block" in owner;
  data[0] = isBlock ? 1 : 2;
  data.set(isBlock ? owner.block : owner.key, 1);
  view.setUint32(17, Math.floor(owner.linkId / 2 ** 32));
  view.setUint32(21, owner.linkId % 2 ** 32);
  return data;
}
