/**
 * A pool of `mysql2` for Kysely that gives up on a server that does not answer: the driver itself would wait for ever. A
 * connection that was given up is closed, so that nothing late on it can be taken for something else.
 */
import type { MysqlPool, MysqlPoolConnection, MysqlQueryResult } from "kysely";
import type { Pool, PoolConnection } from "mysql2";
import { NoAnswer } from "./time_limits.ts";

export interface PatienceOptions {
  /** Milliseconds for a statement, and for getting a connection; absent: no limit. */
  readonly patience?: number;
  /** Statements for each new connection, before anything else. */
  readonly prepare: readonly string[];
}

export class PatientMysqlPool implements MysqlPool {
  readonly #pool: Pool;
  readonly #options: PatienceOptions;
  readonly #known = new WeakMap<PoolConnection, PatientConnection>();

  constructor(pool: Pool, options: PatienceOptions) {
    this.#pool = pool;
    this.#options = options;
  }

  getConnection(callback: (error: unknown, connection: MysqlPoolConnection) => void): void {
    // Kysely looks at the connection only where there is no error.
    const fail = (error: unknown) => callback(error, undefined as unknown as MysqlPoolConnection);
    let late = false;
    const timer = after(this.#options.patience, () => {
      late = true;
      fail(new NoAnswer());
    });
    this.#pool.getConnection((error, connection) => {
      if (late) return connection?.release();
      if (error) {
        clearTimeout(timer);
        return fail(error);
      }
      this.#patient(connection).then((patient) => {
        if (late) return patient.release();
        clearTimeout(timer);
        callback(null, patient);
      }, (error) => {
        connection.destroy();
        if (late) return;
        clearTimeout(timer);
        fail(error);
      });
    });
  }

  end(callback: (error: unknown) => void): void {
    this.#pool.end(callback);
  }

  async #patient(connection: PoolConnection): Promise<PatientConnection> {
    let patient = this.#known.get(connection);
    if (patient === undefined) {
      patient = new PatientConnection(connection, this.#options.patience);
      for (const statement of this.#options.prepare) await patient.run(statement);
      this.#known.set(connection, patient);
    }
    return patient;
  }
}

class PatientConnection implements MysqlPoolConnection {
  readonly #connection: PoolConnection;
  readonly #patience?: number;
  #lost?: unknown;

  constructor(connection: PoolConnection, patience?: number) {
    this.#connection = connection;
    this.#patience = patience;
    // Without a listener the loss of an idle connection would end the program.
    connection.on("error", (error) => this.#lost ??= error);
  }

  get config(): object {
    return this.#connection.config;
  }

  get threadId(): number {
    return this.#connection.threadId;
  }

  connect(callback?: (error: unknown) => void): void {
    this.#connection.connect(callback);
  }

  destroy(): void {
    this.#connection.destroy();
  }

  release(): void {
    this.#connection.release();
  }

  run(statement: string): Promise<void> {
    return new Promise((resolve, reject) => {
      this.query(statement, [], (error) => error ? reject(error) : resolve());
    });
  }

  // deno-lint-ignore no-explicit-any
  query(sql: string, parameters: any, callback?: (error: unknown, result: MysqlQueryResult) => void): any {
    if (callback === undefined) return this.#connection.query(sql, parameters);
    const fail = (error: unknown) => callback(error, []);
    if (this.#lost !== undefined) {
      queueMicrotask(() => fail(this.#lost));
      return;
    }
    let over = false;
    const timer = after(this.#patience, () => {
      over = true;
      this.#lost = new NoAnswer();
      this.#connection.destroy();
      fail(this.#lost);
    });
    this.#connection.query(sql, parameters, (error, result) => {
      if (over) return;
      over = true;
      clearTimeout(timer);
      if (error) fail(error);
      else callback(null, result as MysqlQueryResult);
    });
  }
}

function after(ms: number | undefined, then: () => void): ReturnType<typeof setTimeout> | undefined {
  return ms === undefined ? undefined : setTimeout(then, ms);
}
