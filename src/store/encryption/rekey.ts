/** Encrypts all bits of a database with a new data key, while no KME runs on it. */
import { randomBytes } from "node:crypto";
import { CompiledQuery, Kysely, sql, type Transaction } from "kysely";
import type { Database } from "../../config/config.ts";
import { buffer } from "../../domain/bytes.ts";
import type { ConfiguredId } from "../../domain/ids.ts";
import { StoreUnusable } from "../../domain/store_errors.ts";
import { errorMessage } from "../../domain/text.ts";
import type { StoreDialect } from "../dialects/dialect.ts";
import { openDialect } from "../dialects/open.ts";
import { livingProcesses, lockOpening } from "../operations/leases.ts";
import { databaseTime } from "../store_clock.ts";
import type { Schema } from "../table_schema.ts";
import { KEY_BYTES } from "./aead.ts";
import { clearBits, EncryptedBits, ownerOf } from "./bits_cipher.ts";
import { BYTE_COUNTS_BYTES, openByteCounts } from "./byte_counts.ts";
import {
  ALTERED_DATA_KEYS,
  type EncryptionState,
  encryptionState,
  formerKeys,
  insertFirstKey,
  isPartlyClear,
  openDataKey,
  openDataKeys,
  sealDataKey,
} from "./data_keys.ts";

/** Rows in one transaction. */
const ROWS = 1000;

export interface Rekeying {
  readonly database: Database;
  readonly thisKme: ConfiguredId;
  /** The master key of the configuration. */
  readonly masterKey: Uint8Array;
  /** The master key from now on; absent: the same. */
  readonly newMasterKey?: Uint8Array;
  /** Called after each transaction with the number of rows that it has looked at. */
  readonly onProgress?: (rows: number) => void;
}

export interface Rekeyed {
  /** What was there before: bits in the clear, encrypted bits, or a rekeying that was interrupted. */
  readonly before: "clear" | "encrypted" | "unfinished";
  /** Bits of blocks and keys that were encrypted. */
  readonly encrypted: number;
  /** Bits that were altered or moved before; they are left as they are and cannot be used. */
  readonly damaged: number;
}

/**
 * Encrypts all bits with a new data key, or continues that where it was interrupted. First of all the new master key takes effect:
 * after an interruption either key continues it, if both are given.
 *
 * @throws StoreUnusable with one line; errors of the driver. What was done until then stays.
 */
export async function rekey(options: Rekeying): Promise<Rekeyed> {
  const dialect = openDialect(options.database, () => {});
  // A server may take long to rewrite a table.
  const db = new Kysely<Schema>({ dialect: dialect.unbounded?.() ?? dialect.kysely });
  try {
    await requireOwn(db, options.thisKme);
    const begun = await begin(db, dialect, options);
    let [encrypted, damaged] = [0, 0];
    for (;;) {
      const part = await reseal(db, dialect, begun);
      encrypted += part.encrypted;
      damaged += part.damaged;
      if (part.rows === 0) break;
      options.onProgress?.(part.rows);
    }
    // Before the end is recorded, so that it is done again after an interruption.
    await rewriteTables(db, dialect);
    await finish(db, dialect, begun);
    return { before: begun.before, encrypted, damaged };
  } finally {
    await db.destroy();
  }
}

async function requireOwn(db: Kysely<Schema>, thisKme: ConfiguredId): Promise<void> {
  let owner: { kme_id: string } | undefined;
  try {
    owner = await db.selectFrom("kme").select("kme_id").executeTakeFirst();
    await db.selectFrom("data_keys").select("number").execute();
  } catch (error) {
    throw new StoreUnusable(
      `the database is new, of another version of this program, or cannot be read; start the KME once with this version: ${
        errorMessage(error)
      }`,
    );
  }
  if (owner !== undefined && owner.kme_id !== thisKme.text) {
    throw new StoreUnusable(`the database belongs to KME ${owner.kme_id}, not to KME ${thisKme.text}`);
  }
}

async function requireIdle(trx: Transaction<Schema>, dialect: StoreDialect): Promise<void> {
  if (dialect.exclusive) return;
  const living = await livingProcesses(trx, (await databaseTime(trx, dialect)).now);
  if (living > 0) {
    throw new StoreUnusable(
      "a process of this KME uses the database, or did a moment ago; stop every KME process on it and try again",
    );
  }
}

interface Begun {
  readonly before: Rekeyed["before"];
  readonly databaseId: Uint8Array;
  /** That of the data keys from now on. */
  readonly masterKey: Uint8Array;
  /** Number of the new data key. */
  readonly number: number;
  readonly cipher: EncryptedBits;
  /** Whether bits that are not encrypted yet are in the clear. */
  readonly wasClear: boolean;
}

/**
 * Makes the new data key, unless there is one already, and encrypts all data keys with the new master key. No process may run; one
 * that opens the database afterwards uses the new data key.
 */
function begin(db: Kysely<Schema>, dialect: StoreDialect, options: Rekeying): Promise<Begun> {
  const { masterKey, newMasterKey = masterKey } = options;
  return db.transaction().execute(async (trx) => {
    await lockOpening(trx, dialect);
    await requireIdle(trx, dialect);
    let state = await encryptionState(trx);
    const { databaseId } = state;
    if (databaseId === undefined) {
      throw new StoreUnusable("the database is empty; there is nothing to encrypt");
    }
    const before = stateBefore(state);
    if (before === "clear") {
      await insertFirstKey(trx, databaseId, newMasterKey, 0);
      state = await encryptionState(trx);
    }
    const keys = await openWithEither(state, masterKey, newMasterKey);
    const former = formerKeys(state, await EncryptedBits.with(keys));
    if (former !== undefined) throw new StoreUnusable(former);
    for (const { number, resealed_through } of state.keys) {
      const place = { number, resealed_through };
      const sealed_key = await sealDataKey(keys.get(number)!, place, databaseId, newMasterKey);
      await trx.updateTable("data_keys").set({ sealed_key }).where("number", "=", number).execute();
    }
    let number = Math.max(...keys.keys());
    if (before === "encrypted") {
      const key = Uint8Array.from(randomBytes(KEY_BYTES));
      keys.set(++number, key);
      const place = { number, resealed_through: 0 };
      const sealed_key = await sealDataKey(key, place, databaseId, newMasterKey);
      await trx.insertInto("data_keys").values({ ...place, sealed_key }).execute();
    }
    const cipher = await EncryptedBits.with(keys);
    for (const key of keys.values()) key.fill(0);
    return {
      before,
      databaseId,
      masterKey: newMasterKey,
      number,
      cipher,
      wasClear: isPartlyClear(state),
    };
  });
}

async function openWithEither(state: EncryptionState, masterKey: Uint8Array, newMasterKey: Uint8Array) {
  const opened = await openDataKeys(state, masterKey);
  if (typeof opened !== "string") return opened;
  const openedWithNew = await openDataKeys(state, newMasterKey);
  if (typeof openedWithNew !== "string") return openedWithNew;
  throw new StoreUnusable(opened === ALTERED_DATA_KEYS ? opened : openedWithNew);
}

function stateBefore({ keys }: EncryptionState): Rekeyed["before"] {
  if (keys.length === 0) return "clear";
  return keys.some((key) => key.resealed_through !== null) ? "unfinished" : "encrypted";
}

/** Encrypts the bits of the next rows, and records how far it has come, in one transaction. */
function reseal(db: Kysely<Schema>, dialect: StoreDialect, begun: Begun) {
  const { cipher, wasClear } = begun;
  return db.transaction().execute(async (trx) => {
    const { through, dataKey } = await lockProgress(trx, dialect, begun);
    const rows = await dialect.forUpdate(
      trx.selectFrom("blocks").select(["seq", "block_id", "key_id", "link_id", "bits"])
        .where("seq", ">", through).orderBy("seq").limit(ROWS),
    ).execute();
    let [encrypted, damaged] = [0, 0];
    // Built once: only the parameters differ.
    const { sql: text } = trx.updateTable("blocks").set({
      bits: clearBits.seal("byteCounts", new Uint8Array()),
    })
      .where("seq", "=", 0).compile();
    for (const { seq, bits, ...row } of rows) {
      if (bits === null) continue;
      const owner = ownerOf(row);
      // Bits in the clear may look as if they were encrypted.
      if (cipher.isCurrent(bits) && (!wasClear || cipher.open(owner, bits) !== undefined)) continue;
      const opened = (wasClear ? clearBits : cipher).open(owner, bits);
      if (opened === undefined) {
        damaged++;
        continue;
      }
      await trx.executeQuery(CompiledQuery.raw(text, [cipher.seal(owner, opened), seq]));
      encrypted++;
    }
    const last = rows.at(-1)?.seq;
    if (last !== undefined) await recordProgress(trx, begun, dataKey, last);
    dataKey.fill(0);
    return { rows: rows.length, encrypted, damaged };
  });
}

/** Locks the row of the new data key; returns `seq` of the last row of `blocks` that is done, which is authenticated, and the key. */
async function lockProgress(
  trx: Transaction<Schema>,
  dialect: StoreDialect,
  { number, databaseId, masterKey }: Begun,
): Promise<{ through: number; dataKey: Uint8Array }> {
  const row = await dialect.forUpdate(
    trx.selectFrom("data_keys").selectAll().where("number", "=", number),
  ).executeTakeFirst();
  if (row === undefined || row.resealed_through === null) {
    throw new StoreUnusable("another process has finished this");
  }
  const dataKey = await openDataKey(row, databaseId, masterKey);
  if (dataKey === undefined) throw new StoreUnusable(ALTERED_DATA_KEYS);
  return { through: row.resealed_through, dataKey };
}

/** @param through see `DataKeysTable.resealed_through`. */
async function recordProgress(
  trx: Transaction<Schema>,
  { number, databaseId, masterKey }: Begun,
  dataKey: Uint8Array,
  through: number | null,
): Promise<void> {
  const sealed_key = await sealDataKey(dataKey, { number, resealed_through: through }, databaseId, masterKey);
  await trx.updateTable("data_keys").set({ resealed_through: through, sealed_key })
    .where("number", "=", number).execute();
}

/** Leaves no copies of the former bits in pages of the table. */
async function rewriteTables(db: Kysely<Schema>, { name }: StoreDialect): Promise<void> {
  const statements = {
    sqlite: ["pragma temp_store = default", "vacuum", "pragma wal_checkpoint(truncate)"],
    postgres: ["vacuum full blocks", "vacuum full byte_counts"],
    mysql: ["optimize table blocks, byte_counts"],
  }[name] ?? [];
  for (const statement of statements) {
    const { rows } = await sql.raw<Partial<{ Msg_type: string; Msg_text: string }>>(statement).execute(db);
    // MySQL and MariaDB report a failure in a row of the result.
    const failure = rows.find(({ Msg_type }) => Msg_type?.toLowerCase() === "error");
    if (failure !== undefined) throw new Error(`the tables could not be rewritten: ${failure.Msg_text}`);
  }
}

async function finish(db: Kysely<Schema>, dialect: StoreDialect, begun: Begun): Promise<void> {
  const { number, cipher } = begun;
  await db.transaction().execute(async (trx) => {
    const { dataKey } = await lockProgress(trx, dialect, begun);
    const { counts } = await dialect.forUpdate(
      trx.selectFrom("byte_counts").select("counts").where("one", "=", 1),
    ).executeTakeFirstOrThrow();
    const isClear = buffer(counts as unknown as Uint8Array).length === BYTE_COUNTS_BYTES;
    const bytes = openByteCounts(isClear ? clearBits : cipher, counts);
    await trx.updateTable("byte_counts").set({ counts: cipher.seal("byteCounts", bytes) }).where(
      "one",
      "=",
      1,
    )
      .execute();
    await trx.deleteFrom("data_keys").where("number", "<>", number).execute();
    await recordProgress(trx, begun, dataKey, null);
    dataKey.fill(0);
  });
}
