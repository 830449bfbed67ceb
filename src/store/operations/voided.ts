/**
 * Transactions that were taken back. Activating a transaction and taking it back both first lock its row in this table until the
 * commit. So the two exclude each other, also on different connections and in different processes.
 */
import type { Buffer } from "node:buffer";
import type { KeyIdBytes } from "../../domain/block.ts";
import { buffer, mapKey } from "../../domain/bytes.ts";
import { chunks } from "../../domain/chunks.ts";
import { insertRows, ROWS, run } from "../statements.ts";
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
  work: Work,
  transactions: readonly LinkTransaction[],
): Promise<void> {
  const unique = new Map(transactions.map((transaction) => [transactionKey(transaction), transaction]));
  // In a fixed order, to avoid deadlocks.
  const sorted = [...unique].sort(([a], [b]) => a < b ? -1 : 1);
  const rows = sorted.map(([, { id, linkId }]) => ({
    transaction_id: buffer(id),
    link_id: linkId,
    had_keys: HELD,
    since: work.now,
  }));
  await insertRows(work, "voided_transactions", rows, "stays");
}

/** Releases the locks. */
export async function letGoTransactions(
  work: Work,
  transactions: readonly LinkTransaction[],
): Promise<void> {
  for (const ids of chunks(idsOf(transactions), ROWS)) {
    await run(
      work,
      `let go ${ids.length}`,
      [...ids, HELD],
      () =>
        work.trx.deleteFrom("voided_transactions").where("transaction_id", "in", ids)
          .where("had_keys", "=", HELD),
    );
  }
}

/** The transactions of these that were taken back. */
export async function voidedAmong(
  work: Work,
  transactions: readonly LinkTransaction[],
): Promise<Set<string>> {
  const voided = new Set<string>();
  for (const ids of chunks(idsOf(transactions), ROWS)) {
    const rows = await run(
      work,
      `voided ${ids.length}`,
      [...ids, HELD],
      () =>
        work.trx.selectFrom("voided_transactions").select(["transaction_id", "link_id"])
          .where("transaction_id", "in", ids).where("had_keys", "!=", HELD),
    );
    for (const row of rows) voided.add(transactionKey({ id: row.transaction_id, linkId: row.link_id }));
  }
  return voided;
}

function idsOf(transactions: readonly LinkTransaction[]): Buffer[] {
  return transactions.map(({ id }) => buffer(id));
}
