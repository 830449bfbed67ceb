/** The ledger's first schema: stock, reservations, keys, and what must be remembered for ever. */
import { type Kysely, sql } from "kysely";
import type { Migration } from "kysely/migration";
import type { StoreDialect } from "../dialects/dialect.ts";

/** Slots of a link's stock: as many writers can change it without waiting for each other. */
export const STOCK_SLOTS = 8;

export function ledger(dialect: StoreDialect): Migration {
  const { bytes, varbytes, text, sequence } = dialect;
  // deno-lint-ignore no-explicit-any
  const suffixed = (db: Kysely<any>, name: string, suffix = "") => {
    const table = db.schema.createTable(name).modifyEnd(sql.raw(suffix));
    // Where a first start that broke off has left tables behind, the next one goes on.
    return dialect.transactionalDdl ? table : table.ifNotExists();
  };
  // deno-lint-ignore no-explicit-any
  const table = (db: Kysely<any>, name: string) => suffixed(db, name, dialect.tableSuffix);
  // deno-lint-ignore no-explicit-any
  const keyed = (db: Kysely<any>, name: string) =>
    suffixed(db, name, dialect.keyedTableSuffix ?? dialect.tableSuffix);
  // deno-lint-ignore no-explicit-any
  const index = async (db: Kysely<any>, name: string, on: string, columns: string[], some?: string) => {
    if (!dialect.transactionalDdl) {
      const { rows } = await sql`show index from ${sql.table(on)} where key_name = ${name}`.execute(db);
      if (rows.length > 0) return;
    }
    const index = db.schema.createIndex(name).on(on).columns(columns);
    await (some !== undefined && dialect.partialIndexes ? index.where(sql.ref(some), "is not", null) : index)
      .execute();
  };
  /** An index of the rows in which the column has a value. */
  // deno-lint-ignore no-explicit-any
  const indexOfSome = (db: Kysely<any>, name: string, on: string, column: string) =>
    index(db, name, on, [column], column);

  return {
    async up(db) {
      await table(db, "kme")
        .addColumn("one", "integer", (c) => c.primaryKey().check(sql`one = 1`))
        .addColumn("kme_id", text, (c) => c.notNull())
        .execute();

      await table(db, "links")
        .addColumn("id", sequence.type, (c) => sequence.define(c).primaryKey())
        .addColumn("kme_id", text, (c) => c.notNull().unique())
        .execute();

      await keyed(db, "stock")
        .addColumn("link_id", sequence.type, (c) => c.notNull())
        .addColumn("slot", "integer", (c) => c.notNull())
        .addColumn("free", "bigint", (c) => c.notNull())
        .addPrimaryKeyConstraint("stock_key", ["link_id", "slot"])
        .addForeignKeyConstraint("stock_link", ["link_id"], "links", ["id"])
        .execute();

      await keyed(db, "seen_blocks")
        .addColumn("block_id", bytes(16), (c) => c.notNull().primaryKey())
        .execute();

      await table(db, "reservations")
        .addColumn("reservation_id", bytes(16), (c) => c.notNull().primaryKey())
        .addColumn("phase", "integer", (c) => c.notNull().check(sql`phase in (0, 1, 2, 3)`))
        .addColumn("process_id", bytes(16), (c) => c.notNull())
        .addColumn("since", "bigint", (c) => c.notNull())
        .addColumn("plan", "text")
        .execute();

      await table(db, "blocks")
        .addColumn("seq", sequence.type, (c) => sequence.define(c).primaryKey())
        .addColumn("block_id", bytes(16), (c) => c.notNull().unique())
        .addColumn("link_id", sequence.type, (c) => c.notNull())
        .addColumn("state", "integer", (c) => c.notNull().check(sql`state in (0, 1, 2)`))
        .addColumn("half", "integer", (c) => c.notNull().check(sql`half in (0, 1)`))
        .addColumn("stored_at", "bigint", (c) => c.notNull())
        .addColumn("reservation_id", bytes(16))
        // Not of a fixed length: that would be filled up where it is short, instead of being refused.
        .addColumn("bits", varbytes(32), (c) => c.notNull().check(sql`length(bits) = 32`))
        .addCheckConstraint(
          "reserved_by_a_reservation",
          sql`(state = 0 and reservation_id is null) or (state <> 0 and reservation_id is not null)`,
        )
        .addForeignKeyConstraint("block_link", ["link_id"], "links", ["id"])
        .addForeignKeyConstraint("block_seen", ["block_id"], "seen_blocks", ["block_id"])
        .addForeignKeyConstraint("block_reservation", ["reservation_id"], "reservations", ["reservation_id"])
        .execute();
      // The order in which free blocks are taken.
      await index(db, "blocks_free", "blocks", ["link_id", "state", "half", "seq"]);
      await indexOfSome(db, "blocks_reserved", "blocks", "reservation_id");

      await table(db, "keys")
        .addColumn("key_id", bytes(16), (c) => c.notNull().primaryKey())
        .addColumn("origin_kme", text, (c) => c.notNull())
        .addColumn("master_sae", text, (c) => c.notNull())
        .addColumn("created_at", "bigint", (c) => c.notNull())
        .addColumn("expires_at", "bigint", (c) => c.notNull())
        .addColumn("bits", varbytes(8192))
        .addColumn("transaction_id", bytes(16))
        .addColumn("link_id", sequence.type)
        .addColumn("blocks", varbytes(8192))
        .execute();
      await index(db, "keys_expiry", "keys", ["expires_at"]);
      await indexOfSome(db, "keys_transaction", "keys", "transaction_id");

      await keyed(db, "key_slaves")
        .addColumn("key_id", bytes(16), (c) => c.notNull())
        .addColumn("sae_id", text, (c) => c.notNull())
        .addColumn("read_at", "bigint")
        .addPrimaryKeyConstraint("key_slaves_key", ["key_id", "sae_id"])
        .addForeignKeyConstraint("slave_of_key", ["key_id"], "keys", ["key_id"], (c) => c.onDelete("cascade"))
        .execute();

      await table(db, "voided_transactions")
        .addColumn("transaction_id", bytes(16), (c) => c.notNull())
        .addColumn("link_id", sequence.type, (c) => c.notNull())
        .addColumn("had_keys", "integer", (c) => c.notNull().check(sql`had_keys in (0, 1, 2)`))
        .addColumn("since", "bigint", (c) => c.notNull())
        .addPrimaryKeyConstraint("voided_key", ["transaction_id", "link_id"])
        .addForeignKeyConstraint("voided_link", ["link_id"], "links", ["id"])
        .execute();

      await keyed(db, "key_files")
        .addColumn("link_id", sequence.type, (c) => c.notNull())
        .addColumn("name", text, (c) => c.notNull())
        .addColumn("size", "bigint", (c) => c.notNull())
        .addColumn("mtime", "bigint", (c) => c.notNull())
        .addColumn("taken", "bigint", (c) => c.notNull())
        .addPrimaryKeyConstraint("key_files_key", ["link_id", "name"])
        .addForeignKeyConstraint("file_link", ["link_id"], "links", ["id"])
        .execute();

      await table(db, "byte_counts")
        .addColumn("one", "integer", (c) => c.primaryKey().check(sql`one = 1`))
        .addColumn("counts", varbytes(2048), (c) => c.notNull())
        .execute();

      await table(db, "processes")
        .addColumn("process_id", bytes(16), (c) => c.notNull().primaryKey())
        .addColumn("lease_until", "bigint", (c) => c.notNull())
        .execute();

      await table(db, "leases")
        .addColumn("name", text, (c) => c.notNull().primaryKey())
        .addColumn("process_id", bytes(16), (c) => c.notNull())
        .addColumn("lease_until", "bigint", (c) => c.notNull())
        .execute();
    },
  };
}
