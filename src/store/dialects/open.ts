/** Chooses the dialect for a configured database. */
import type { Database } from "../../config/config.ts";
import type { StoreDialect } from "./dialect.ts";
import { mysqlDialect } from "./mysql.ts";
import { postgresDialect } from "./postgres.ts";
import { sqliteDialect } from "./sqlite.ts";

/** Time limit in milliseconds for a statement of a database server, and for getting a connection. */
export const STATEMENT_LIMIT_MS = 4000;

/**
 * @param onError called with errors of idle connections.
 * @param limit milliseconds for a statement of a database server, and for getting a connection.
 */
export function openDialect(
  database: Database,
  onError: (error: unknown) => void,
  limit = STATEMENT_LIMIT_MS,
): StoreDialect {
  switch (database.kind) {
    case "memory":
      return sqliteDialect(":memory:");
    case "sqlite":
      return sqliteDialect(database.path);
    case "postgres":
      return postgresDialect(database, limit, onError);
    case "mysql":
      return mysqlDialect(database, limit);
  }
}
