/** MySQL 8 and MariaDB 10.6 or newer through `mysql2`. */
import { MysqlDialect, sql } from "kysely";
import { createPool } from "mysql2";
import type { Failure, StoreDialect } from "./dialect.ts";

/** Milliseconds after which a connection attempt is given up. */
const PATIENCE_MS = 4000;

/** Transactions side by side; reads use the rest of the pool. */
const LANES = 4;

/** @param uri `mysql://user:password@host[:port]/database`. */
export function mysqlDialect(uri: string): StoreDialect {
  const pool = createPool({
    uri: uri.replace(/^mariadb:/, "mysql:"),
    connectionLimit: LANES + 4,
    connectTimeout: PATIENCE_MS,
    supportBigNumbers: true,
    decimalNumbers: true,
    charset: "utf8mb4_bin",
    flags: ["+FOUND_ROWS"],
  });
  pool.on("connection", (connection) => {
    // Read committed: no gap locks, so writers of different blocks do not wait for each other.
    connection.query("set session transaction isolation level read committed");
    connection.query("set session innodb_lock_wait_timeout = 4");
  });
  return {
    name: "mysql",
    kysely: new MysqlDialect({ pool }),
    exclusive: false,
    lanes: LANES,
    bytes: (length) => sql.raw(`binary(${length})`),
    varbytes: (length) => sql.raw(length < 16384 ? `varbinary(${length})` : "mediumblob"),
    text: sql`varchar(255) character set utf8mb4 collate utf8mb4_bin`,
    sequence: { type: "bigint", define: (column) => column.autoIncrement() },
    partialIndexes: false,
    insertIgnoring: (query) => query.ignore() as typeof query,
    tableSuffix: "engine = InnoDB",
    skipLocked: (query) => query.forUpdate().skipLocked() as typeof query,
    forUpdate: (query) => query.forUpdate() as typeof query,
    classify,
  };
}

function classify(error: unknown): Failure {
  const { errno, fatal } = error as { errno?: number; fatal?: boolean };
  if (errno === 1213) return "again"; // deadlock
  // Lock wait, too many connections, shutdown, disk full, read-only, killed, no table space.
  if ([1205, 1040, 1053, 1021, 1114, 1290, 1317, 1927, 3024].includes(errno ?? 0)) return "unavailable";
  return fatal === true || errno === undefined || errno < 1000 ? "unavailable" : "fault";
}
