/**
 * Transactions that were taken back. Activating a transaction and taking it back both first lock its row in this table until the
 * commit. So the two exclude each other, also on different connections and in different processes.
 */
import type { KeyIdBytes } from "../../domain/block.ts";
import { buffer, mapKey } from "../../domain/bytes.ts";
import type { Work } from "../work.ts";

/** Value of `had_keys` while a transaction holds the lock; no committed row has it. */
export const HELD = 2;

/** A transaction of the neighbour at the other end of a link. */
export interface LinkTransaction {
  readonly id: KeyIdBytes;
  readonly linkId: number;
}

/** A string that is equal for the same transaction of the same neighbour. */
export function transactionKey({ id, linkId }: LinkTransaction): string {
  return `${linkId}/${mapKey(id)}`;
}

/** Locks the transactions that were not taken back before; waits for others that have them locked. */
export async function holdTransactions(
  { trx, dialect, now }: Work,
  transactions: readonly LinkTransaction[],
): Promise<void> {
  if (transactions.length === 0) return;
  const unique = new Map(transactions.map((transaction) => [transactionKey(transaction), transaction]));
  // In a fixed order, to avoid deadlocks.
  const sorted = [...unique].sort(([a], [b]) => a < b ? -1 : 1);
  await dialect.insertIgnoring(
    trx.insertInto("voided_transactions")
      .values(sorted.map(([, { id, linkId }]) => ({
        transaction_id: buffer(id),
        link_id: linkId,
        had_keys: HELD,
        since: now,
      }))),
  ).execute();
}

/** Releases the locks. */
export async function letGoTransactions(
  { trx }: Work,
  transactions: readonly LinkTransaction[],
): Promise<void> {
  if (transactions.length === 0) return;
  await trx.deleteFrom("voided_transactions").where(
    "transaction_id",
    "in",
    transactions.map(({ id }) => buffer(id)),
  )
    .where("had_keys", "=", HELD).execute();
}

/** The transactions of these that were taken back. */
export async function voidedAmong(
  { trx }: Work,
  transactions: readonly LinkTransaction[],
): Promise<Set<string>> {
  if (transactions.length === 0) return new Set();
  const rows = await trx.selectFrom("voided_transactions").select(["transaction_id", "link_id"])
    .where("transaction_id", "in", transactions.map(({ id }) => buffer(id))).where("had_keys", "!=", HELD)
    .execute();
  return new Set(rows.map((row) => transactionKey({ id: row.transaction_id, linkId: row.link_id })));
}
