/** What the store's changes are made of. */
import type { Transaction } from "kysely";
import type { StoreDialect } from "./dialects/dialect.ts";
import type { DamagedBits } from "./damaged_bits.ts";
import type { BitsCipher } from "./encryption/bits_cipher.ts";
import type { Schema } from "./table_schema.ts";
import type { StockChanges } from "./stock_changes.ts";

/** The text of a statement by its shape. */
export type StatementTexts = Map<string, string>;

/** Context of an operation. */
export interface Work {
  readonly trx: Transaction<Schema>;
  readonly dialect: StoreDialect;
  /** Milliseconds since 1970, the same for the whole transaction. */
  readonly now: number;
  /** The stock slot that this transaction writes. */
  readonly slot: number;
  /** Changes of stock, written once at the end of the transaction. */
  readonly stock: StockChanges;
  /** Seals bits for their rows and opens them. */
  readonly cipher: BitsCipher;
  /** Blocks and keys that were found damaged; reported after the transaction. */
  readonly damaged: DamagedBits[];
  /** Cache of compiled statements. */
  readonly texts: StatementTexts;
}

/**
 * One kind of change, for many callers at once. It may run again after a rollback. Refusals are results, not exceptions: an
 * exception rolls the whole batch back.
 */
export interface Operation<Item, Result> {
  readonly name: string;
  run(work: Work, items: readonly Item[]): Promise<Result[]>;
}

/** A kind of change that is made for one caller after the other. */
export function oneByOne<Item, Result>(
  name: string,
  runOne: (work: Work, item: Item) => Promise<Result>,
): Operation<Item, Result> {
  return {
    name,
    async run(work, items) {
      const results: Result[] = [];
      for (const item of items) results.push(await runOne(work, item));
      return results;
    },
  };
}
