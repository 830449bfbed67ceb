/** PostgreSQL 13 or newer through `pg`. */
import { PostgresDialect, sql } from "kysely";
import pg from "pg";
import type { DatabaseServer } from "../../config/config.ts";
import { tlsOptions } from "./server_tls.ts";
import { deleteByKey, type Failure, SERVER_LANES, type StoreDialect } from "./dialect.ts";
import { limitedPostgresPool } from "./limited_pools.ts";

const INT8 = 20;
const NUMERIC = 1700;

/**
 * @param server `uri`: `postgres://user:password@host[:port]/database`.
 * @param limit milliseconds for a statement, and for getting a connection.
 */
export function postgresDialect(
  server: DatabaseServer,
  limit: number,
  onError: (error: unknown) => void,
): StoreDialect {
  const open = (options: pg.PoolConfig) =>
    openPool(server, { connectionTimeoutMillis: limit, ...options }, onError);
  const bounds = {
    statement_timeout: limit,
    lock_timeout: limit,
    // Ends the locks of a process whose host has failed.
    idle_in_transaction_session_timeout: 4 * limit,
  };
  return {
    name: "postgres",
    kysely: new PostgresDialect({
      pool: limitedPostgresPool(open({ max: SERVER_LANES + 4, ...bounds }), limit),
    }),
    unbounded: () => new PostgresDialect({ pool: limitedPostgresPool(open({ max: 1 })) }),
    transactionalDdl: true,
    exclusive: false,
    wallClock: sql`extract(epoch from clock_timestamp()) * 1000`,
    lanes: SERVER_LANES,
    bytes: () => "bytea",
    varbytes: () => "bytea",
    text: sql`varchar(291) collate "C"`,
    longText: "text",
    sequence: { type: "bigint", define: (column) => column.generatedByDefaultAsIdentity() },
    partialIndexes: true,
    readsJson: false,
    readsArrays: true,
    insertIgnoring: (query) => query.onConflict((conflict) => conflict.doNothing()) as typeof query,
    skipLocked: (query) => query.forUpdate().skipLocked() as typeof query,
    forUpdate: (query) => query.forUpdate() as typeof query,
    deleteByKey,
    lockBlocks,
    classify,
  };
}

function openPool(
  { uri, tls }: DatabaseServer,
  options: pg.PoolConfig,
  onError: (error: unknown) => void,
): pg.Pool {
  const types = new pg.TypeOverrides();
  // Counts, times and sequence numbers stay below 2^53.
  types.setTypeParser(INT8, Number);
  types.setTypeParser(NUMERIC, Number);
  const pool = new pg.Pool({
    connectionString: isolated(uri),
    keepAlive: true,
    application_name: "kme",
    types,
    ssl: tls === undefined ? false : tlsOptions(tls),
    ...options,
  });
  pool.on("error", onError);
  return pool;
}

/**
 * Settings that the operations rely on, independent of defaults of the server, the database or the user. The plan of a prepared
 * statement is made for each use: a table that was empty when it was made may have millions of rows soon after.
 */
const SETTINGS = "-c default_transaction_isolation=read\\ committed -c plan_cache_mode=force_custom_plan";

/** Adds to the options of a connection. If an option is given twice, the last one counts. Options in a URI replace `PGOPTIONS`. */
function isolated(uri: string): string {
  const [address, query = ""] = uri.split(/\?(.*)/s);
  const parameters = new URLSearchParams(query);
  const given = parameters.get("options") ?? Deno.env.get("PGOPTIONS");
  parameters.set("options", given ? `${given} ${SETTINGS}` : SETTINGS);
  return `${address}?${parameters}`;
}

function lockBlocks(seqs: readonly number[]) {
  const list = sql.join(seqs);
  return sql`select from blocks where seq in (${list})
    order by array_position(array[${list}]::bigint[], seq) for update`;
}

function classify(error: unknown): Failure {
  const code = (error as { code?: unknown }).code;
  if (typeof code !== "string") return "unavailable"; // a lost connection or a time-out of the driver
  if (code === "40001" || code === "40P01") return "again";
  // Classes: connection, insufficient resources, operator intervention, system error, lock not available, read-only.
  if (/^(08|53|57|58|55P03|25006|XX)/.test(code)) return "unavailable";
  return /^[0-9A-Z]{5}$/.test(code) ? "fault" : "unavailable";
}
