/** Inspects a database: creates, migrates and changes nothing, and does not disturb a running KME. */
import { Kysely, SqliteDialect } from "kysely";
import type { Database } from "../config/config.ts";
import type { KmeId } from "../domain/ids.ts";
import type { StoreDialect } from "./dialects/dialect.ts";
import { openDialect } from "./dialects/open.ts";
import { openSqlite } from "./dialects/sqlite_library.ts";
import { type EncryptionState, inspectEncryption } from "./encryption/data_keys.ts";
import { unmatchedFilesOf, type UnmatchedOfFile } from "./matching.ts";
import { type SchemaState, schemaState } from "./migrations/migrate.ts";
import { keptCrls } from "./operations/keep_crl.ts";
import { livingProcesses } from "./operations/leases.ts";
import { keysWaiting } from "./operations/waiting.ts";
import { databaseTime } from "./store_clock.ts";
import type { Schema } from "./table_schema.ts";

export type Inspection =
  /** In memory, or a file that does not exist yet. */
  | { readonly kind: "absent" }
  /** A process has the SQLite file open: most likely a running KME. */
  | { readonly kind: "inUse" }
  | {
    readonly kind: "seen";
    readonly schema: SchemaState;
    /** The KME that it belongs to; absent before the first start. */
    readonly kme?: KmeId;
    /** Identifies the database; absent before the first start. */
    readonly databaseId?: Uint8Array;
    /** Processes that run on it now. */
    readonly processes: number;
    /** Absent before the first start. */
    readonly generation?: number;
    readonly encryption: EncryptionState;
    /** DER of the CRLs that were in force, one for each CA. */
    readonly crls: readonly Uint8Array[];
    /** Stock, if requested. */
    readonly stock?: {
      /** Free blocks by the KME of the link. */
      readonly blocks: ReadonlyMap<KmeId, number>;
      /** Keys that a slave has not fetched yet. */
      readonly keys: number;
    };
    /** Files with unmatched blocks, where they were asked for. */
    readonly unmatched?: readonly UnmatchedOfFile[];
  };

export interface InspectionOptions {
  /** List the files of the link with this KME that have unmatched blocks. */
  readonly unmatchedOf?: KmeId;
  /** Whether to count blocks and keys too; this reads every key. */
  readonly count?: boolean;
}

/**
 * @throws Error of the driver when the database cannot be reached or read.
 */
export async function inspectDatabase(
  database: Database,
  options: InspectionOptions = {},
): Promise<Inspection> {
  switch (database.kind) {
    case "memory":
      return { kind: "absent" };
    case "sqlite":
      return await inspectFile(database.path, options);
    case "postgres":
    case "mysql":
      return await inspect(openDialect(database, () => {}), options);
  }
}

async function inspectFile(path: string, options: InspectionOptions): Promise<Inspection> {
  try {
    await Deno.stat(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return { kind: "absent" };
    throw error;
  }
  // Not read-only: such a connection could not remove the files of the write-ahead log that it creates.
  const database = openSqlite(path, { fileMustExist: true, timeout: 0 });
  try {
    database.pragma("query_only = ON");
    database.prepare("select count(*) from sqlite_master").get();
  } catch (error) {
    database.close();
    const { code = "" } = error as { code?: string };
    if (/^SQLITE_(BUSY|LOCKED)/.test(code)) return { kind: "inUse" };
    throw error;
  }
  return await inspect({ kysely: new SqliteDialect({ database }), exclusive: true }, options);
}

async function inspect(
  dialect: Pick<StoreDialect, "kysely" | "wallClock" | "exclusive">,
  { count, unmatchedOf }: InspectionOptions,
): Promise<Inspection> {
  const db = new Kysely<Schema>({ dialect: dialect.kysely });
  try {
    const schema = await schemaState(db);
    // Both rows are written after the migrations, so they may be missing after an interrupted first start.
    const hasTables = schema.applied.length > 0;
    const owner = hasTables
      ? await db.selectFrom("kme").select(["kme_id", "database_id"]).executeTakeFirst()
      : undefined;
    const generation = hasTables
      ? await db.selectFrom("generation").select("value").executeTakeFirst()
      : undefined;
    const now = hasTables ? (await databaseTime(db, dialect)).now : 0;
    return {
      kind: "seen",
      schema,
      kme: owner?.kme_id,
      databaseId: owner && Uint8Array.from(owner.database_id),
      // A file that can be read is not open elsewhere: rows of processes are left from a crash.
      processes: hasTables && !dialect.exclusive ? await livingProcesses(db, now) : 0,
      generation: generation?.value,
      encryption: await inspectEncryption(db),
      crls: hasTables ? await keptCrls(db) : [],
      stock: count && hasTables ? await countStock(db, now) : undefined,
      unmatched: unmatchedOf !== undefined && hasTables ? await unmatchedFilesOf(db, unmatchedOf) : undefined,
    };
  } finally {
    await db.destroy();
  }
}

async function countStock(db: Kysely<Schema>, now: number) {
  const rows = await db.selectFrom("links").innerJoin("stock", "stock.link_id", "links.id")
    .select((e) => ["links.kme_id", e.fn.sum<number>("stock.free").as("free")] as const)
    .groupBy("links.kme_id").execute();
  return {
    blocks: new Map(rows.map(({ kme_id, free }) => [kme_id, Number(free)])),
    keys: await keysWaiting(db, now),
  };
}
