/**
 * Transactions that were taken back. Whoever makes keys of a transaction, or takes it back, first holds its place in this
 * table until the commit: so the two never miss each other, neither on two connections nor in two processes.
 */
import type { KeyIdBytes } from "../../domain/block.ts";
import { buffer, mapKey } from "../../domain/bytes.ts";
import type { Work } from "../work.ts";

/** What `had_keys` says while a place is held; no committed row has it. */
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

/** Waits for others that hold a place of these, then holds them where the transaction was not taken back before. */
export async function holdTransactions(
  { trx, dialect, now }: Work,
  transactions: readonly LinkTransaction[],
): Promise<void> {
  if (transactions.length === 0) return;
  const unique = new Map(transactions.map((transaction) => [transactionKey(transaction), transaction]));
  // In one order, so that two of us do not wait for each other in a circle.
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

/** Gives up the places that are held. */
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

/** Those of them that were taken back. */
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
