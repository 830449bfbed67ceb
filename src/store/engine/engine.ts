/** What a {@linkcode Store} works with: a database that is open, in this thread or in another one. */
import type { Kysely } from "kysely";
import type { KmeId } from "../../domain/ids.ts";
import type { Operation } from "../work.ts";
import type { Link } from "../../domain/link.ts";
import type { Schema } from "../table_schema.ts";

/** One kind of question: it changes nothing. */
export interface Query<Item, Result> {
  readonly name: string;
  run(db: Kysely<Schema>, item: Item): Promise<Result>;
}

/** Items and results are plain: objects, arrays, strings, numbers, booleans, `null` and bytes. */
export interface Engine {
  /** By the KME at the other end; this KME's own pool is among them. */
  readonly links: ReadonlyMap<KmeId, Link>;
  /** Free blocks by the link's row as of the last result given out; empty where other processes change them too. */
  readonly stock: ReadonlyMap<number, number>;
  /** Whether its work holds up everything else in this thread. */
  readonly blocking: boolean;
  /** Resolves, with why, when the database is lost for good: nothing is answered any more. */
  readonly failed: Promise<string>;
  /**
   * Changes something; resolves after the commit.
   *
   * @throws StoreUnavailable when the database failed or no turn came in time.
   */
  submit<Item, Result>(operation: Operation<Item, Result>, item: Item): Promise<Result>;
  /** @throws StoreUnavailable when the database failed. */
  read<Item, Result>(query: Query<Item, Result>, item: Item): Promise<Result>;
  /** Lets what is under way finish, then closes the database. */
  close(): Promise<void>;
}
