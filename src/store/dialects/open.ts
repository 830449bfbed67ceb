/** Chooses the dialect for a configured database. */
import type { Database } from "../../config/config.ts";
import type { StoreDialect } from "./dialect.ts";
import { mysqlDialect } from "./mysql.ts";
import { postgresDialect } from "./postgres.ts";
import { sqliteDialect } from "./sqlite.ts";

/** @param onError called with errors of idle connections. */
export function openDialect(database: Database, onError: (error: unknown) => void): StoreDialect {
  switch (database.kind) {
    case "memory":
      return sqliteDialect(":memory:");
    case "sqlite":
      return sqliteDialect(database.path);
    case "postgres":
      return postgresDialect(database, onError);
    case "mysql":
      return mysqlDialect(database);
  }
}
