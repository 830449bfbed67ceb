/** MySQL 8 and MariaDB 10.6 or newer through `mysql2`. */
import { MysqlDialect, type MysqlPool, sql } from "kysely";
import { createPool } from "mysql2";
import type { Failure, StoreDialect } from "./dialect.ts";
import { limitedMysqlPool, TIME_LIMIT_MS } from "./limited_pools.ts";

/** Transactions side by side; reads use the rest of the pool. */
const LANES = 4;

const SESSION = [
  // Read committed: no gap locks, so writers of different blocks do not wait for each other.
  "set session transaction isolation level read committed",
  // Nothing is cut to fit, and text is quoted as the driver does it, whatever the server's defaults are.
  "set session sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'",
];

const BOUNDS = [
  // Locks of a process whose host is gone. Only MariaDB knows it, and only MariaDB reads this comment.
  `set session innodb_lock_wait_timeout = ${TIME_LIMIT_MS / 1000} /*M! , idle_transaction_timeout = ${
    4 * TIME_LIMIT_MS / 1000
  } */`,
];

/** @param uri `mysql://user:password@host[:port]/database`. */
export function mysqlDialect(uri: string): StoreDialect {
  return {
    name: "mysql",
    kysely: new MysqlDialect({ pool: openPool(uri, LANES + 4, TIME_LIMIT_MS) }),
    unbounded: () => new MysqlDialect({ pool: openPool(uri, 1) }),
    transactionalDdl: false,
    exclusive: false,
    wallClock: sql`unix_timestamp(now(3)) * 1000`,
    lanes: LANES,
    bytes: (length) => sql.raw(`binary(${length})`),
    varbytes: (length) => sql.raw(length < 16384 ? `varbinary(${length})` : "mediumblob"),
    // Without padding, or names would be equal that differ in spaces at their end. MySQL and MariaDB call it differently,
    // and each reads its own comment only.
    text: sql.raw(
      "varchar(255) character set utf8mb4 /*!80017 collate utf8mb4_0900_bin */ /*M! collate utf8mb4_nopad_bin */",
    ),
    sequence: { type: "bigint", define: (column) => column.autoIncrement() },
    partialIndexes: false,
    insertIgnoring: (query) => query.ignore() as typeof query,
    tableSuffix: "engine = InnoDB",
    skipLocked: (query) => query.forUpdate().skipLocked() as typeof query,
    forUpdate: (query) => query.forUpdate() as typeof query,
    deleteByKey,
    lockBlocks,
    classify,
  };
}

function openPool(uri: string, connectionLimit: number, limit?: number): MysqlPool {
  const pool = createPool({
    uri: uri.replace(/^mariadb:/, "mysql:"),
    connectionLimit,
    connectTimeout: TIME_LIMIT_MS,
    supportBigNumbers: true,
    decimalNumbers: true,
    charset: "utf8mb4_bin",
    flags: ["+FOUND_ROWS"],
  });
  return limitedMysqlPool(pool, {
    limit,
    prepare: limit === undefined ? SESSION : [...SESSION, ...BOUNDS],
  });
}

/** A list of keys would make the server go through a short table from its start, waiting for rows of others; a join does not. */
function deleteByKey(table: string, key: string, values: readonly unknown[]) {
  return sql`delete gone from (${listed(values)}) ids
    straight_join ${sql.table(table)} gone on ${sql.ref(`gone.${key}`)} = ids.id`;
}

function lockBlocks(seqs: readonly number[]) {
  return sql`select seq from (${listed(seqs)}) ids straight_join blocks on seq = ids.id for update`;
}

function listed(values: readonly unknown[]) {
  const rows = values.map((value, i) => i === 0 ? sql`select ${value} as id` : sql`select ${value}`);
  return sql.join(rows, sql` union all `);
}

function classify(error: unknown): Failure {
  const { errno, fatal } = error as { errno?: number; fatal?: boolean };
  if (errno === 1213) return "again"; // deadlock
  // Lock wait, too many connections, shutdown, disk full, read-only, killed, no table space.
  if ([1205, 1040, 1053, 1021, 1114, 1290, 1317, 1927, 3024].includes(errno ?? 0)) return "unavailable";
  return fatal === true || errno === undefined || errno < 1000 ? "unavailable" : "fault";
}
