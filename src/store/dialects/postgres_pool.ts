/**
 * A pool of `pg` for Kysely that gives up on a server that does not answer, and closes the connection: with the driver's
 * own time-out the connection would go back into the pool in the middle of a transaction.
 */
import type { PostgresPool, PostgresPoolClient, PostgresQueryResult } from "kysely";
import type { Pool, PoolClient } from "pg";
import { NoAnswer } from "./time_limits.ts";

export class PatientPostgresPool implements PostgresPool {
  readonly options: object = {};
  readonly #pool: Pool;
  readonly #patience?: number;
  readonly #known = new WeakMap<PoolClient, PatientClient>();

  /** @param patience milliseconds for a statement; absent: no limit. The pool itself limits the wait for a connection. */
  constructor(pool: Pool, patience?: number) {
    this.#pool = pool;
    this.#patience = patience;
  }

  async connect(): Promise<PostgresPoolClient> {
    const client = await this.#pool.connect();
    let patient = this.#known.get(client);
    if (patient === undefined) this.#known.set(client, patient = new PatientClient(client, this.#patience));
    return patient;
  }

  end(): Promise<void> {
    return this.#pool.end();
  }
}

class PatientClient implements PostgresPoolClient {
  readonly #client: PoolClient;
  readonly #patience?: number;
  #lost?: unknown;

  constructor(client: PoolClient, patience?: number) {
    this.#client = client;
    this.#patience = patience;
    // Without a listener the loss of a connection between two statements would end the program.
    client.on("error", (error: unknown) => this.#lost ??= error);
  }

  get processID(): number | undefined {
    return (this.#client as { processID?: number }).processID;
  }

  // deno-lint-ignore no-explicit-any
  query(sql: any, parameters?: readonly unknown[]): any {
    return this.#query(sql, parameters ?? []);
  }

  release(destroy?: boolean): void {
    this.#client.release(destroy === true || this.#lost !== undefined);
  }

  async #query(sql: string, parameters: readonly unknown[]): Promise<PostgresQueryResult<unknown>> {
    if (this.#lost !== undefined) throw this.#lost;
    const answer: Promise<PostgresQueryResult<unknown>> = this.#client.query(sql, [...parameters]);
    // It may fail after it was given up. After a fatal error the server closes the connection, but a moment later.
    answer.catch((error) => {
      if (error?.severity === "FATAL") this.#lost ??= error;
    });
    if (this.#patience === undefined) return await answer;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const noAnswer = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(this.#lost = new NoAnswer()), this.#patience);
    });
    try {
      return await Promise.race([answer, noAnswer]);
    } finally {
      clearTimeout(timer);
    }
  }
}
