/** MySQL 8 and MariaDB 10.6 or newer through `mysql2`. */
import { MysqlDialect, type MysqlPool, sql } from "kysely";
import { createPool } from "mysql2";
import type { DatabaseServer } from "../../config/config.ts";
import { verifiedMysqlTls } from "./server_tls.ts";
import { type Failure, SERVER_LANES, type StoreDialect } from "./dialect.ts";
import { limitedMysqlPool } from "./limited_pools.ts";

const SESSION = [
  // Read committed: no gap locks, so writers of different blocks do not wait for each other.
  "set session transaction isolation level read committed",
  // Values are never truncated, and text is quoted as the driver does it, independent of the server's defaults.
  "set session sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'",
];

function bounds(limit: number): string {
  const seconds = Math.ceil(limit / 1000);
  // Ends the locks of a process whose host has failed. Only MariaDB has this setting, and only MariaDB reads this comment.
  return `set session innodb_lock_wait_timeout = ${seconds} /*M! , idle_transaction_timeout = ${
    4 * seconds
  } */`;
}

/**
 * @param server `uri`: `mysql://user:password@host[:port]/database`.
 * @param limit milliseconds for a statement, and for getting a connection.
 */
export function mysqlDialect(server: DatabaseServer, limit: number): StoreDialect {
  return {
    name: "mysql",
    kysely: new MysqlDialect({ pool: openPool(server, SERVER_LANES + 4, limit, true) }),
    unbounded: () => new MysqlDialect({ pool: openPool(server, 1, limit, false) }),
    transactionalDdl: false,
    exclusive: false,
    wallClock: sql`unix_timestamp(now(3)) * 1000`,
    lanes: SERVER_LANES,
    bytes: (length) => sql.raw(`binary(${length})`),
    varbytes: (length) => sql.raw(length < 16384 ? `varbinary(${length})` : "mediumblob"),
    // No padding: otherwise names that differ only in spaces at their end would be equal. MySQL and MariaDB have different names
    // for this, and each reads only its own comment.
    text: sql.raw(
      "varchar(291) character set utf8mb4 /*!80017 collate utf8mb4_0900_bin */ /*M! collate utf8mb4_nopad_bin */",
    ),
    longText: sql.raw("longtext"),
    sequence: { type: "bigint", define: (column) => column.autoIncrement() },
    partialIndexes: false,
    readsJson: false,
    readsArrays: false,
    insertIgnoring: (query) => query.ignore() as typeof query,
    tableSuffix: "engine = InnoDB",
    skipLocked: (query) => query.forUpdate().skipLocked() as typeof query,
    forUpdate: (query) => query.forUpdate() as typeof query,
    deleteByKey,
    lockBlocks,
    classify,
  };
}

function openPool(
  { uri, tls }: DatabaseServer,
  connectionLimit: number,
  limit: number,
  isBounded: boolean,
): MysqlPool {
  const pool = createPool({
    uri: uri.replace(/^mariadb:/, "mysql:"),
    connectionLimit,
    connectTimeout: limit,
    supportBigNumbers: true,
    decimalNumbers: true,
    charset: "utf8mb4_bin",
    flags: ["+FOUND_ROWS"],
    ssl: tls && verifiedMysqlTls(tls, new URL(uri).hostname),
  });
  return limitedMysqlPool(pool, {
    limit: isBounded ? limit : undefined,
    prepare: isBounded ? [...SESSION, bounds(limit)] : SESSION,
  });
}

/** With a list of keys the server would scan a short table from its start and wait for locked rows; with a join it does not. */
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
