/**
 * Pools of `pg` and `mysql2` for Kysely with a time limit for each statement. After a time-out the connection is closed, so that
 * a late answer is never taken for the answer to another statement. The drivers' own time limits would put the connection back
 * into the pool in the middle of a transaction, or wait without limit.
 */
import { hash } from "node:crypto";
import type {
  MysqlPool,
  MysqlPoolConnection,
  MysqlQueryResult,
  PostgresPool,
  PostgresPoolClient,
  PostgresQueryResult,
} from "kysely";
import type * as mysql from "mysql2";
import type * as pg from "pg";
import { within } from "../../domain/within.ts";

/** The server did not answer in time. The statement may have been carried out. */
class NoAnswer extends Error {
  override name = "NoAnswer";
  constructor(limit: number) {
    super(`the database server did not answer within ${limit} ms`);
  }
}

/** @param limit milliseconds for a statement; absent: no limit. The pool itself limits the wait for a connection. */
export function limitedPostgresPool(pool: pg.Pool, limit?: number): PostgresPool {
  const known = new WeakMap<pg.PoolClient, PostgresPoolClient>();
  return {
    options: {},
    async connect() {
      const client = await pool.connect();
      let limited = known.get(client);
      if (limited === undefined) known.set(client, limited = limitedPostgresClient(client, limit));
      return limited;
    },
    end: () => pool.end(),
  };
}

function limitedPostgresClient(client: pg.PoolClient, limit?: number): PostgresPoolClient {
  const statements = new LimitedStatements(client, limit);
  return {
    get processID() {
      return (client as { processID?: number }).processID;
    },
    // deno-lint-ignore no-explicit-any
    query: (sql: any, parameters: readonly unknown[] = []): any =>
      statements.run(() => {
        const answer: Promise<PostgresQueryResult<unknown>> = client.query({
          name: preparedName(sql, parameters.length),
          text: sql,
          values: [...parameters],
        });
        // After a fatal error the server closes the connection a moment later.
        answer.catch((error) => {
          if (error?.severity === "FATAL") statements.lose(error);
        });
        return answer;
      }),
    release: (destroy?: boolean) => client.release(destroy === true || statements.lost !== undefined),
  };
}

/**
 * Parameters of a prepared statement. A list makes a statement of its own for each length, and the server keeps every one until the
 * connection ends, so those with long lists are not prepared.
 */
const MAX_PREPARED_PARAMETERS = 8;

/** By text. */
const preparedNames = new Map<string, string>();

/**
 * The name under which a connection prepares a statement once; `undefined` for one that is parsed at each use. It is a digest of the
 * text, so the same name never stands for another statement.
 */
function preparedName(text: string, parameters: number): string | undefined {
  if (parameters === 0 || parameters > MAX_PREPARED_PARAMETERS) return undefined;
  let name = preparedNames.get(text);
  if (name === undefined) preparedNames.set(text, name = `kme_${hash("sha256", text).slice(0, 32)}`);
  return name;
}

interface MysqlLimits {
  /** Milliseconds for a statement, and for getting a connection; absent: no limit. */
  readonly limit?: number;
  /** Statements for each new connection, before anything else. */
  readonly prepare: readonly string[];
}

export function limitedMysqlPool(pool: mysql.Pool, { limit, prepare }: MysqlLimits): MysqlPool {
  const known = new WeakMap<mysql.PoolConnection, MysqlPoolConnection>();
  const acquire = async (): Promise<MysqlPoolConnection> => {
    const connection = await new Promise<mysql.PoolConnection>((resolve, reject) =>
      pool.getConnection((error, connection) => error ? reject(error) : resolve(connection))
    );
    let limited = known.get(connection);
    if (limited === undefined) {
      try {
        limited = limitedMysqlConnection(connection, limit);
        for (const statement of prepare) await queryOf(limited, statement);
      } catch (error) {
        connection.destroy();
        throw error;
      }
      known.set(connection, limited);
    }
    return limited;
  };
  return {
    getConnection(callback) {
      const acquired = acquire();
      withinLimit(acquired, limit).then((connection) => callback(null, connection), (error) => {
        // A connection that comes too late is put back.
        if (error instanceof NoAnswer) acquired.then((late) => late.release(), () => {});
        // Kysely uses the connection only if there is no error.
        callback(error, undefined as unknown as MysqlPoolConnection);
      });
    },
    end: (callback) => pool.end(callback),
  };
}

function limitedMysqlConnection(connection: mysql.PoolConnection, limit?: number): MysqlPoolConnection {
  const statements = new LimitedStatements(connection, limit, () => connection.destroy());
  return {
    get config() {
      return connection.config;
    },
    threadId: connection.threadId,
    connect: (callback) => connection.connect(callback),
    destroy: () => connection.destroy(),
    release: () => connection.release(),
    // deno-lint-ignore no-explicit-any
    query(sql: string, parameters: any, callback?: (error: unknown, result: MysqlQueryResult) => void): any {
      if (callback === undefined) return connection.query(sql, parameters);
      statements.run(() =>
        new Promise<MysqlQueryResult>((resolve, reject) =>
          connection.query(
            sql,
            parameters,
            (error, result) => error ? reject(error) : resolve(result as MysqlQueryResult),
          )
        )
      ).then((result) => callback(null, result), (error) => callback(error, []));
    },
  };
}

function queryOf(connection: MysqlPoolConnection, statement: string): Promise<void> {
  return new Promise((resolve, reject) =>
    connection.query(statement, [], (error) => error ? reject(error) : resolve())
  );
}

/** Runs the statements of one connection, until it is lost. */
class LimitedStatements {
  /** Why the connection cannot be used any more. */
  lost?: unknown;
  readonly #limit?: number;
  readonly #close: () => void;

  /** @param close closes the connection after a time-out. */
  constructor(
    connection: { on(event: "error", listener: (error: unknown) => void): unknown },
    limit?: number,
    close: () => void = () => {},
  ) {
    this.#limit = limit;
    this.#close = close;
    // Without a listener the loss of an idle connection would end the program.
    connection.on("error", (error) => this.lose(error));
  }

  lose(error: unknown): void {
    this.lost ??= error;
  }

  async run<T>(statement: () => Promise<T>): Promise<T> {
    if (this.lost !== undefined) throw this.lost;
    try {
      return await withinLimit(statement(), this.#limit);
    } catch (error) {
      if (error instanceof NoAnswer) {
        this.lose(error);
        this.#close();
      }
      throw error;
    }
  }
}

/** @throws NoAnswer when the promise takes longer; its later result is ignored. */
function withinLimit<T>(answer: Promise<T>, limit?: number): Promise<T> {
  if (limit === undefined) return answer;
  return within(answer, limit, () => {
    throw new NoAnswer(limit);
  });
}
