/** Brings a database to this program's schema. */
import { type Kysely, sql } from "kysely";
import { type Migration, Migrator } from "kysely/migration";
import type { StoreDialect } from "../dialects/dialect.ts";
import { StoreUnusable } from "../errors.ts";
import type { Schema } from "../schema.ts";
import { ledger } from "./0001_ledger.ts";

/** Every migration by its name; names sort in the order of their application and never change. */
function migrations(dialect: StoreDialect): Record<string, Migration> {
  return {
    "0001_ledger": ledger(dialect),
  };
}

/**
 * Applies what is missing; two processes starting at once do not collide.
 *
 * @throws StoreUnusable when the database was migrated by a newer program.
 */
export async function migrate(db: Kysely<Schema>, dialect: StoreDialect): Promise<void> {
  const known = migrations(dialect);
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

async function applied(db: Kysely<Schema>): Promise<string[]> {
  const tables = await db.introspection.getTables({ withInternalKyselyTables: true });
  if (!tables.some((table) => table.name === "kysely_migration")) return [];
  const { rows } = await sql<{ name: string }>`select name from kysely_migration`.execute(db);
  return rows.map((row) => row.name);
}
