/** A number that only grows: by it a database is told from an older copy of itself. */
import { sql } from "kysely";
import type { Migration } from "kysely/migration";
import type { StoreDialect } from "../dialects/dialect.ts";

export function generation(dialect: StoreDialect): Migration {
  return {
    async up(db) {
      await db.schema.createTable("generation").modifyEnd(sql.raw(dialect.tableSuffix ?? ""))
        .addColumn("one", "integer", (c) => c.primaryKey().check(sql`one = 1`))
        .addColumn("value", "bigint", (c) => c.notNull())
        .execute();
    },
  };
}
