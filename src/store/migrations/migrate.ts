/** Brings a database to this program's schema. */
import { Kysely, sql } from "kysely";
import { DEFAULT_MIGRATION_TABLE, type Migration, Migrator } from "kysely/migration";
import type { StoreDialect } from "../dialects/dialect.ts";
import { StoreUnusable } from "../../domain/store_errors.ts";
import { livingProcesses } from "../operations/leases.ts";
import { databaseTime } from "../store_clock.ts";
import type { Schema } from "../table_schema.ts";
import { initial } from "./0001_initial.ts";
import { schemaOf, tableNames } from "./tables.ts";

/** Table in which Kysely keeps the names of applied migrations. */
const MIGRATION_TABLE = DEFAULT_MIGRATION_TABLE;

/** Every migration by its name; names sort in the order of their application and never change. */
const MIGRATIONS: Readonly<Record<string, (dialect: StoreDialect) => Migration>> = {
  "0001_initial": initial,
};

export function migrations(dialect: StoreDialect): Record<string, Migration> {
  return Object.fromEntries(Object.entries(MIGRATIONS).map(([name, make]) => [name, make(dialect)]));
}

/**
 * Applies missing migrations. Two processes may do so at the same time.
 *
 * @param known the program's migrations.
 * @throws StoreUnusable when the database was migrated by a newer program, or is to be migrated while processes use it.
 */
export async function migrate(
  db: Kysely<Schema>,
  dialect: StoreDialect,
  known: Record<string, Migration> = migrations(dialect),
): Promise<void> {
  if (dialect.unbounded === undefined) return await apply(db, dialect, known);
  const patient = new Kysely<Schema>({ dialect: dialect.unbounded() });
  try {
    await apply(patient, dialect, known);
  } finally {
    await patient.destroy();
  }
}

async function apply(
  db: Kysely<Schema>,
  dialect: StoreDialect,
  known: Record<string, Migration>,
): Promise<void> {
  // Running processes are read before the applied migrations, so that one that has just migrated is no obstacle.
  const living = dialect.exclusive ? 0 : await processesOn(db, dialect);
  const there = await applied(db);
  const unknown = there.filter((name) => !(name in known));
  if (unknown.length > 0) {
    throw new StoreUnusable(
      `the database was made by a newer version of this program (it has ${
        unknown.join(", ")
      }); use that version`,
    );
  }
  const missing = Object.keys(known).filter((name) => !there.includes(name));
  if (living > 0 && missing.length > 0) {
    throw new StoreUnusable(
      `the database is of an older version of this program, which still uses it or did a moment ago (${living} ${
        living === 1 ? "process" : "processes"
      }); stop every KME process on it, then start this version`,
    );
  }
  const migrator = new Migrator({
    db,
    provider: { getMigrations: () => Promise.resolve(known) },
    migrationTableSchema: await schemaOf(db, MIGRATION_TABLE),
  });
  const { error } = await migrator.migrateToLatest();
  if (error !== undefined) throw error;
}

async function processesOn(db: Kysely<Schema>, dialect: StoreDialect): Promise<number> {
  if (!(await tableNames(db)).has("processes")) return 0;
  return await livingProcesses(db, (await databaseTime(db, dialect)).now);
}

/** Names of migrations. */
export interface SchemaState {
  readonly applied: readonly string[];
  /** Migrations that the next start applies. */
  readonly missing: readonly string[];
  /** Migrations of a newer version of the program. */
  readonly unknown: readonly string[];
}

/** Compares the database with the program's migrations, without changing it. */
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
  if (!(await tableNames(db)).has(MIGRATION_TABLE)) return [];
  const { rows } = await sql<{ name: string }>`select name from ${sql.table(MIGRATION_TABLE)}`.execute(db);
  return rows.map((row) => row.name);
}
