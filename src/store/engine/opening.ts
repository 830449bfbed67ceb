/** Prepares a database for use: tables, the id of its KME, and a row for each link. */
import { randomBytes } from "node:crypto";
import type { Kysely } from "kysely";
import type { ConfiguredId, KmeId } from "../../domain/ids.ts";
import type { StoreDialect } from "../dialects/dialect.ts";
import { StoreUnusable } from "../../domain/store_errors.ts";
import { type Link, ownHalf } from "../../domain/link.ts";
import { STOCK_SLOTS } from "../migrations/0001_initial.ts";
import { type BitsCipher, clearBits } from "../encryption/bits_cipher.ts";
import { BYTE_COUNTS_BYTES } from "../encryption/byte_counts.ts";
import { openCipher, requireUsable, throwawayCipher } from "../encryption/data_keys.ts";
import { migrate } from "../migrations/migrate.ts";
import { beginLease, lockOpening } from "../operations/leases.ts";
import { type DatabaseTime, databaseTime } from "../store_clock.ts";
import type { Schema } from "../table_schema.ts";

/** The KME of the database, the KMEs with which it shares keys, and the process. */
export interface Parties {
  /** Identifies this process among those that share the database. */
  readonly processId: Uint8Array;
  readonly thisKme: ConfiguredId;
  /** The KMEs with which this one shares a link. */
  readonly neighbours: readonly ConfiguredId[];
  /**
   * Encrypts the keys that encrypt the bits: 32 bytes; absent: bits are stored in the clear. `discard`: all bits are to be
   * removed, so it is not needed.
   */
  readonly masterKey?: Uint8Array | "discard";
}

/**
 * Creates or migrates the tables, removes processes that cannot run any more, and gives this one its first lease.
 *
 * @throws StoreUnusable when it belongs to another KME, is newer than the program, or has another master key: then nothing is
 * changed; errors of the driver.
 */
export async function prepareDatabase(
  db: Kysely<Schema>,
  dialect: StoreDialect,
  parties: Parties,
): Promise<{ databaseId: Uint8Array; links: Map<KmeId, Link>; time: DatabaseTime; cipher: BitsCipher }> {
  const { masterKey } = parties;
  if (masterKey !== "discard") await requireUsable(db, masterKey);
  await migrate(db, dialect);
  const databaseId = await claimDatabase(db, dialect, parties.thisKme);
  const links = await openLinks(db, dialect, parties);
  const cipher = await join(db, dialect, parties);
  return { databaseId, links, time: await databaseTime(db, dialect), cipher };
}

/**
 * Decides how this process stores bits, and counts it among those that run. Both are one transaction under a lock: otherwise of two
 * processes that start at the same moment one could store bits in the clear and the other one encrypt them, and `rekey` could
 * remove a key with which a process has just begun to encrypt.
 */
function join(
  db: Kysely<Schema>,
  dialect: StoreDialect,
  { masterKey, processId }: Parties,
): Promise<BitsCipher> {
  return db.transaction().execute(async (trx) => {
    await lockOpening(trx, dialect);
    const cipher = masterKey === "discard"
      ? await throwawayCipher()
      : await openCipher(trx, dialect, masterKey);
    if (dialect.exclusive) {
      await trx.deleteFrom("processes").execute();
      await trx.deleteFrom("leases").execute();
    } else await beginLease(trx, processId, (await databaseTime(trx, dialect)).now);
    return cipher;
  });
}

async function claimDatabase(
  db: Kysely<Schema>,
  dialect: StoreDialect,
  thisKme: ConfiguredId,
): Promise<Uint8Array> {
  const row = { one: 1, kme_id: thisKme.text, database_id: randomBytes(16) };
  await dialect.insertIgnoring(db.insertInto("kme").values(row)).execute();
  const { kme_id, database_id } = await db.selectFrom("kme").selectAll().executeTakeFirstOrThrow();
  if (kme_id !== thisKme.text) {
    throw new StoreUnusable(`the database belongs to KME ${kme_id}, not to KME ${thisKme.text}`);
  }
  await dialect.insertIgnoring(
    db.insertInto("byte_counts").values({
      one: 1,
      counts: clearBits.seal("byteCounts", new Uint8Array(BYTE_COUNTS_BYTES)),
    }),
  )
    .execute();
  await dialect.insertIgnoring(db.insertInto("generation").values({ one: 1, value: 0 })).execute();
  return Uint8Array.from(database_id);
}

async function openLinks(db: Kysely<Schema>, dialect: StoreDialect, { thisKme, neighbours }: Parties) {
  const links = new Map<KmeId, Link>();
  for (const kme of [thisKme, ...neighbours]) {
    const known = () => db.selectFrom("links").select("id").where("kme_id", "=", kme.text).executeTakeFirst();
    if (await known() === undefined) {
      await dialect.insertIgnoring(db.insertInto("links").values({ kme_id: kme.text })).execute();
    }
    const { id } = (await known())!;
    await dialect.insertIgnoring(
      db.insertInto("stock").values(
        Array.from({ length: STOCK_SLOTS }, (_, slot) => ({ link_id: id, slot, free: 0 })),
      ),
    ).execute();
    links.set(kme.text, { id, kme: kme.text, ownHalf: ownHalf(thisKme, kme) });
  }
  return links;
}
