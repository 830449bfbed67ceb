/** Migrations that are interrupted. */
import assert from "node:assert/strict";
import { Kysely } from "kysely";
import type { Migration } from "kysely/migration";
import type { StoreDialect } from "../../src/store/dialects/dialect.ts";
import { openDialect } from "../../src/store/dialects/open.ts";
import { migrate, migrations } from "../../src/store/migrations/migrate.ts";
import type { Schema } from "../../src/store/table_schema.ts";
import type { Ledger } from "./store_fixture.ts";

/** Opens the database beside the store, for as long as `use` lasts. */
export async function withDatabase<T>(
  ledger: Ledger,
  use: (db: Kysely<Schema>, dialect: StoreDialect) => Promise<T>,
): Promise<T> {
  const dialect = openDialect(ledger.database, () => {});
  const db = new Kysely<Schema>({ dialect: dialect.kysely });
  try {
    return await use(db, dialect);
  } finally {
    await db.destroy();
  }
}

/** Migrates as a start does; returns why it broke off. */
async function migrateUntil(ledger: Ledger, allowed: number): Promise<Error | undefined> {
  return await withDatabase(ledger, async (db, dialect) => {
    let statements = 0;
    const interrupted = Object.entries(migrations(dialect)).map((
      [name, { up }],
    ): [string, Migration] => [name, {
      up: (inner) =>
        up(inner.withPlugin({
          transformQuery: ({ node }) => {
            if (node.kind !== "SelectQueryNode" && ++statements > allowed) throw new Error("broken off");
            return node;
          },
          transformResult: ({ result }) => Promise.resolve(result),
        })),
    }]);
    return await migrate(db, dialect, Object.fromEntries(interrupted))
      .then(() => undefined, (error: Error) => error);
  });
}

/** Breaks off after each statement that changes something in turn, until the migration ends; returns how often. */
export async function migrateWithBreaks(ledger: Ledger): Promise<number> {
  // Where a migration is one transaction, nothing is left of it; elsewhere it meets its own tables again.
  for (let allowed = 1; allowed < 200; allowed++) {
    const failure = await migrateUntil(ledger, allowed);
    if (failure === undefined) return allowed - 1;
    assert.match(failure.message, /broken off/);
  }
  throw new Error("the migration does not end");
}
