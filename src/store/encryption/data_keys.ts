/** The data keys of a database, which are stored encrypted with its master key. */
import { Buffer } from "node:buffer";
import { randomBytes } from "node:crypto";
import type { Kysely, Transaction } from "kysely";
import { buffer } from "../../domain/bytes.ts";
import { StoreUnusable } from "../../domain/store_errors.ts";
import type { StoreDialect } from "../dialects/dialect.ts";
import { tableNames } from "../migrations/tables.ts";
import { livingProcesses } from "../operations/leases.ts";
import { databaseTime } from "../store_clock.ts";
import type { DataKeysTable, Schema } from "../table_schema.ts";
import { Aead, KEY_BYTES, SEAL_BYTES } from "./aead.ts";
import { type BitsCipher, clearBits, EncryptedBits, type StoredBits } from "./bits_cipher.ts";
import { BYTE_COUNTS_BYTES } from "./byte_counts.ts";

/** Bytes of an encrypted data key. */
export const SEALED_KEY_BYTES = KEY_BYTES + SEAL_BYTES;

const MEMBER = "this_kme.store_encryption";
const REKEY = "kme store rekey CONFIG";

const WRONG_MASTER_KEY =
  `the key of ${MEMBER} is not the master key with which the keys in the database are encrypted, or its table data_keys was altered, and nothing was changed; set it to that key`;

/** The master key is right. */
export const ALTERED_DATA_KEYS =
  "the table data_keys of the database was altered, and nothing was changed; find out who did it, and put its rows back from a backup made after the last `kme store rekey`";

/** The rows are authentic, but not of this time. */
const FORMER_DATA_KEYS =
  "the rows of the table data_keys are not those with which the keys in the database are encrypted, or its table byte_counts was altered, and nothing was changed; put these tables back from a backup made after the last `kme store rekey`";

/** The first data key. Former bits are in the clear while they are encrypted with it, and only then. */
const FIRST_NUMBER = 1;

/** What the database says about encryption. */
export interface EncryptionState {
  /** Empty: the bits are not encrypted. */
  readonly keys: readonly DataKeysTable[];
  /** Absent before the first start. */
  readonly databaseId?: Uint8Array;
  /** Whether there are bits that are not encrypted. */
  readonly hasBits: boolean;
  /** The counts of byte values, which are encrypted with a data key from the first key file on; absent before the first start. */
  readonly counts?: StoredBits;
}

/** Looks at it; the tables may not exist yet. */
export async function inspectEncryption(db: Kysely<Schema>): Promise<EncryptionState> {
  // Created after the others. While MariaDB rewrites `blocks`, it does not list that.
  return (await tableNames(db)).has("data_keys") ? await encryptionState(db) : { keys: [], hasBits: false };
}

/** Reads it from existing tables. */
export async function encryptionState(db: Kysely<Schema>): Promise<EncryptionState> {
  const keys = await db.selectFrom("data_keys").selectAll().orderBy("number").execute();
  const kme = await db.selectFrom("kme").select("database_id").executeTakeFirst();
  const counted = await db.selectFrom("byte_counts").select("counts").executeTakeFirst();
  // Only if nothing is encrypted: the search may read every row.
  const bits = keys.length > 0
    ? undefined
    : await db.selectFrom("blocks").select("seq").where("bits", "is not", null).limit(1)
      .executeTakeFirst();
  return {
    keys,
    databaseId: kme && Uint8Array.from(kme.database_id),
    hasBits: bits !== undefined,
    counts: counted?.counts,
  };
}

/** Whether the bits are being encrypted for the first time: those of rows up to a number are. */
export function isPartlyClear({ keys }: EncryptionState): boolean {
  return keys.some((key) => key.number === FIRST_NUMBER && key.resealed_through !== null);
}

/**
 * Why a KME with this master key cannot use the database, in one line.
 *
 * @param master `undefined`: it has none.
 */
export async function encryptionObstacle(
  state: EncryptionState,
  master: Uint8Array | undefined,
): Promise<string | undefined> {
  if (state.keys.length === 0) {
    return master === undefined || !state.hasBits
      ? undefined
      : `the keys in the database are not encrypted, but ${MEMBER} is set; encrypt them with: ${REKEY}`;
  }
  if (master === undefined) {
    return `the keys in the database are encrypted, but ${MEMBER} is not set; set it to their master key`;
  }
  const opened = await openDataKeys(state, master);
  if (typeof opened === "string") return opened;
  const cipher = await EncryptedBits.with(opened);
  for (const key of opened.values()) key.fill(0);
  const former = formerKeys(state, cipher);
  if (former !== undefined) return former;
  return isPartlyClear(state)
    ? `only a part of the keys in the database is encrypted; continue with: ${REKEY}`
    : undefined;
}

/** Rows that are authentic, but were put back from an older backup: with them every block would be damaged. One line if they were. */
export function formerKeys({ counts }: EncryptionState, cipher: BitsCipher): string | undefined {
  if (counts === undefined || buffer(counts as unknown as Uint8Array).length === BYTE_COUNTS_BYTES) {
    return undefined;
  }
  return cipher.open("byteCounts", counts) === undefined ? FORMER_DATA_KEYS : undefined;
}

/** The data keys by number; one line if this is not their master key, or a row was altered. */
export async function openDataKeys(
  { keys, databaseId }: EncryptionState,
  master: Uint8Array,
): Promise<Map<number, Uint8Array> | string> {
  if (databaseId === undefined) return WRONG_MASTER_KEY;
  const opened = new Map<number, Uint8Array>();
  for (const row of keys) {
    const key = await openDataKey(row, databaseId, master);
    if (key !== undefined) opened.set(row.number, key);
  }
  // Bits are encrypted again with a key after the first one only as long as the former key is there.
  const isOneMissing = keys.length === 1 && keys[0]!.number !== FIRST_NUMBER &&
    keys[0]!.resealed_through !== null;
  if (opened.size === keys.length && !isOneMissing) return opened;
  for (const key of opened.values()) key.fill(0);
  return opened.size === 0 ? WRONG_MASTER_KEY : ALTERED_DATA_KEYS;
}

/** Decrypts a data key; `undefined` if this is not its master key, or the row was altered. */
export async function openDataKey(
  row: DataKeysTable,
  databaseId: Uint8Array,
  master: Uint8Array,
): Promise<Uint8Array | undefined> {
  const aead = await Aead.of(master);
  try {
    return aead.open(row.sealed_key, keyData(row, databaseId));
  } finally {
    aead.forget();
  }
}

/** Encrypts a data key with the master key, for this row. */
export async function sealDataKey(
  key: Uint8Array,
  place: KeyPlace,
  databaseId: Uint8Array,
  master: Uint8Array,
): Promise<Uint8Array> {
  const aead = await Aead.of(master);
  try {
    return buffer(aead.seal(key, keyData(place, databaseId)));
  } finally {
    aead.forget();
  }
}

/** What a row of `data_keys` says of its key. */
type KeyPlace = Omit<DataKeysTable, "sealed_key">;

/** Associated data of an encrypted data key: what it is, its database, and the rest of its row. */
function keyData({ number, resealed_through }: KeyPlace, databaseId: Uint8Array): Uint8Array {
  const progress = resealed_through === null ? "in use" : `resealed through ${resealed_through}`;
  return Buffer.concat([Buffer.from(`kme data key ${number} ${progress} `), databaseId]);
}

/** @throws StoreUnusable with one line when a KME with this master key cannot use the database. */
export async function requireUsable(db: Kysely<Schema>, master: Uint8Array | undefined): Promise<void> {
  const obstacle = await encryptionObstacle(await inspectEncryption(db), master);
  if (obstacle !== undefined) throw new StoreUnusable(obstacle);
}

/**
 * How the bits of the database are stored; if it is empty and there is a master key, makes the first data key.
 *
 * @param trx has the lock of `lockOpening`.
 * @throws StoreUnusable with one line.
 */
export async function openCipher(
  trx: Transaction<Schema>,
  dialect: StoreDialect,
  master: Uint8Array | undefined,
): Promise<BitsCipher> {
  let state = await encryptionState(trx);
  if (state.keys.length === 0 && master !== undefined && !state.hasBits) {
    if (!dialect.exclusive && await livingProcesses(trx, (await databaseTime(trx, dialect)).now) > 0) {
      throw new StoreUnusable(
        "a process of this KME uses the database without encryption, or did a moment ago; stop every KME process on it first",
      );
    }
    await insertFirstKey(trx, state.databaseId!, master, null);
    state = await encryptionState(trx);
  }
  const obstacle = await encryptionObstacle(state, master);
  if (obstacle !== undefined) throw new StoreUnusable(obstacle);
  if (master === undefined) return clearBits;
  const keys = await openDataKeys(state, master);
  if (typeof keys === "string") throw new StoreUnusable(keys);
  const cipher = await EncryptedBits.with(keys, state.keys);
  for (const key of keys.values()) key.fill(0);
  return cipher;
}

/**
 * Makes the first data key.
 *
 * @param trx has the lock of `lockOpening`.
 * @param through see `DataKeysTable.resealed_through`.
 */
export async function insertFirstKey(
  trx: Transaction<Schema>,
  databaseId: Uint8Array,
  master: Uint8Array,
  through: number | null,
): Promise<void> {
  const key = Uint8Array.from(randomBytes(KEY_BYTES));
  const place = { number: FIRST_NUMBER, resealed_through: through };
  const sealed_key = await sealDataKey(key, place, databaseId, master);
  key.fill(0);
  await trx.insertInto("data_keys").values({ ...place, sealed_key }).execute();
}

/** For a database of which all bits are to be removed: stores bits so that they can never be read again. */
export async function throwawayCipher(): Promise<BitsCipher> {
  const key = Uint8Array.from(randomBytes(KEY_BYTES));
  const cipher = await EncryptedBits.with(new Map([[0, key]]));
  key.fill(0);
  return cipher;
}
