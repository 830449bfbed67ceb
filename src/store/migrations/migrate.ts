/** Brings a database to this program's schema. */
import { Kysely, sql } from "kysely";
import { type Migration, Migrator } from "kysely/migration";
import type { StoreDialect } from "../dialects/dialect.ts";
import { StoreUnusable } from "../errors.ts";
import type { Schema } from "../schema.ts";
import { ledger } from "./0001_ledger.ts";
import { generation } from "./0002_generation.ts";
import { keysInPlace } from "./0003_keys_in_place.ts";

/** Every migration by its name; names sort in the order of their application and never change. */
const MIGRATIONS: Readonly<Record<string, (dialect: StoreDialect) => Migration>> = {
  "0001_ledger": ledger,
  "0002_generation": generation,
  "0003_keys_in_place": keysInPlace,
};

export function migrations(dialect: StoreDialect): Record<string, Migration> {
  return Object.fromEntries(Object.entries(MIGRATIONS).map(([name, make]) => [name, make(dialect)]));
}

/**
 * Applies what is missing; two processes starting at once do not collide.
 *
 * @param known the program's migrations.
 * @throws StoreUnusable when the database was migrated by a newer program.
 */
export async function migrate(
  db: Kysely<Schema>,
  dialect: StoreDialect,
  known: Record<string, Migration> = migrations(dialect),
): Promise<void> {
  if (dialect.unbounded === undefined) return await apply(db, known);
  const patient = new Kysely<Schema>({ dialect: dialect.unbounded() });
  try {
    await apply(patient, known);
  } finally {
    await patient.destroy();
  }
}

async function apply(db: Kysely<Schema>, known: Record<string, Migration>): Promise<void> {
  const unknown = (await applied(db)).filter((name) => !(name in known));
  if (unknown.length > 0) {
    throw new StoreUnusable(
      `the database was made by a newer version of this program (it has ${
        unknown.join(", ")
      }); use that version`,
    );
  }
  const migrator = new Migrator({ db, provider: { getMigrations: () => Promise.resolve(known) } });
  const { error } = await migrator.migrateToLatest();
  if (error !== undefined) throw error;
}

/** Names of migrations. */
export interface SchemaState {
  readonly applied: readonly string[];
  /** What the next start applies. */
  readonly missing: readonly string[];
  /** Of a newer version of the program. */
  readonly unknown: readonly string[];
}

/** What the database has, without a change to it. */
export async function schemaState(db: Kysely<Schema>): Promise<SchemaState> {
  const known = Object.keys(MIGRATIONS);
  const there = await applied(db);
  return {
    applied: there,
    missing: known.filter((name) => !there.includes(name)),
    unknown: there.filter((name) => !known.includes(name)),
  };
}

async function applied(db: Kysely<Schema>): Promise<string[]> {
  const tables = await db.introspection.getTables({ withInternalKyselyTables: true });
  if (!tables.some((table) => table.name === "kysely_migration")) return [];
  const { rows } = await sql<{ name: string }>`select name from kysely_migration`.execute(db);
  return rows.map((row) => row.name);
}
