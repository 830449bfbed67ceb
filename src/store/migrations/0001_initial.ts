/** The ledger: stock, reservations, keys that wait for their slaves, and records that are never deleted. */
import { type Kysely, sql } from "kysely";
import type { Migration } from "kysely/migration";
import type { StoreDialect } from "../dialects/dialect.ts";
import { STORED_BITS_EXTRA } from "../encryption/bits_cipher.ts";
import { SEALED_KEY_BYTES } from "../encryption/data_keys.ts";
import { MAX_KEPT_CRL } from "../operations/keep_crl.ts";
import { tableBuilder } from "./table_builder.ts";

/** Rows for the stock of one link: this many transactions can change it without waiting for each other. */
export const STOCK_SLOTS = 8;

export function initial(dialect: StoreDialect): Migration {
  const { bytes, varbytes, text, longText, sequence } = dialect;

  return {
    // deno-lint-ignore no-explicit-any
    async up(db: Kysely<any>) {
      const { table, keyedTable, index } = tableBuilder(db, dialect);

      await table("kme")
        .addColumn("one", "integer", (c) => c.primaryKey().check(sql`one = 1`))
        .addColumn("kme_id", text, (c) => c.notNull())
        .addColumn("database_id", bytes(16), (c) => c.notNull())
        .execute();

      await table("clock")
        .addColumn("one", "integer", (c) => c.primaryKey().check(sql`one = 1`))
        .addColumn("time", "bigint", (c) => c.notNull())
        .addColumn("wall", "bigint", (c) => c.notNull())
        .execute();

      await table("links")
        .addColumn("id", sequence.type, (c) => sequence.define(c).primaryKey())
        .addColumn("kme_id", text, (c) => c.notNull().unique())
        .addColumn("peer_database", text)
        .execute();

      await keyedTable("stock")
        .addColumn("link_id", sequence.type, (c) => c.notNull())
        .addColumn("slot", "integer", (c) => c.notNull())
        .addColumn("free", "bigint", (c) => c.notNull())
        .addPrimaryKeyConstraint("stock_key", ["link_id", "slot"])
        .addForeignKeyConstraint("stock_link", ["link_id"], "links", ["id"])
        .execute();

      await keyedTable("seen_blocks")
        .addColumn("block_id", bytes(16), (c) => c.notNull().primaryKey())
        .execute();

      await table("reservations")
        .addColumn("reservation_id", bytes(16), (c) => c.notNull().primaryKey())
        .addColumn("phase", "integer", (c) => c.notNull().check(sql`phase in (0, 1, 2, 3)`))
        .addColumn("process_id", bytes(16), (c) => c.notNull())
        .addColumn("since", "bigint", (c) => c.notNull())
        .addColumn("plan", "text")
        .execute();

      // Each request of a master is one delivery, for any number of keys.
      await table("deliveries")
        .addColumn("delivery_id", sequence.type, (c) => c.notNull().primaryKey())
        .addColumn("origin_kme", text, (c) => c.notNull())
        .addColumn("master_sae", text, (c) => c.notNull())
        .addColumn("created_at", "bigint", (c) => c.notNull())
        .addColumn("expires_at", "bigint", (c) => c.notNull())
        .addColumn("transaction_id", bytes(16))
        .addColumn("link_id", sequence.type)
        .execute();
      await index("deliveries_expiry", "deliveries", ["expires_at"]);
      await index("deliveries_transaction", "deliveries", ["transaction_id"], {
        where: sql`transaction_id is not null`,
      });

      await keyedTable("delivery_slaves")
        .addColumn("delivery_id", sequence.type, (c) => c.notNull())
        .addColumn("sae_id", text, (c) => c.notNull())
        .addPrimaryKeyConstraint("delivery_slaves_key", ["delivery_id", "sae_id"])
        .addForeignKeyConstraint(
          "slave_of_delivery",
          ["delivery_id"],
          "deliveries",
          ["delivery_id"],
          (c) => c.onDelete("cascade"),
        )
        .execute();

      // A key that is a whole block stays in the row of its block.
      await table("blocks")
        .addColumn("seq", sequence.type, (c) => sequence.define(c).primaryKey())
        .addColumn("block_id", bytes(16), (c) => c.unique())
        .addColumn("key_id", bytes(16))
        .addColumn("link_id", sequence.type, (c) => c.notNull())
        .addColumn("state", "integer", (c) => c.notNull().check(sql`state in (0, 1, 2, 3, 4, 5)`))
        .addColumn("half", "integer", (c) => c.notNull().check(sql`half in (0, 1)`))
        .addColumn("stored_at", "bigint", (c) => c.notNull())
        .addColumn("reservation_id", bytes(16))
        .addColumn("file_tag", "bigint")
        .addColumn("delivery_id", sequence.type)
        // Not a fixed length: the database would pad a short value instead of refusing it.
        .addColumn("bits", varbytes(8192 + STORED_BITS_EXTRA))
        .addColumn("composition", varbytes(8192))
        .addColumn("spare", varbytes(40))
        .addCheckConstraint(
          "set_aside_by_a_reservation",
          sql`(state in (1, 2) and reservation_id is not null) or (state in (0, 3, 4, 5) and reservation_id is null)`,
        )
        .addCheckConstraint(
          "a_block_or_a_key",
          sql`(state = 3 and key_id is not null) or (state <> 3 and key_id is null and block_id is not null)`,
        )
        .addCheckConstraint(
          "key_of_a_delivery",
          sql`(state = 3 and delivery_id is not null) or (state <> 3 and delivery_id is null and composition is null)`,
        )
        .addCheckConstraint(
          "block_of_32_bytes",
          sql`state = 3 or (bits is not null and length(bits) in (32, ${sql.lit(32 + STORED_BITS_EXTRA)}))`,
        )
        .addForeignKeyConstraint("block_of_link", ["link_id"], "links", ["id"])
        .addForeignKeyConstraint("block_was_seen", ["block_id"], "seen_blocks", ["block_id"])
        .addForeignKeyConstraint("block_of_reservation", ["reservation_id"], "reservations", [
          "reservation_id",
        ])
        .addForeignKeyConstraint("block_of_delivery", ["delivery_id"], "deliveries", ["delivery_id"])
        .execute();
      // The order in which free blocks are used.
      await index("free_blocks", "blocks", ["link_id", "state", "half", "seq"], { where: sql`state = 0` });
      // Where an index can be limited to some rows; elsewhere the one above serves.
      if (dialect.partialIndexes) {
        await index("unmatched_blocks", "blocks", ["link_id", "seq"], { where: sql`state = 4` });
      }
      await index("set_aside_blocks", "blocks", ["reservation_id"], {
        where: sql`reservation_id is not null`,
      });
      await index("keys", "blocks", ["key_id"], { where: sql`key_id is not null`, unique: true });
      await index("delivered_keys", "blocks", ["delivery_id"], { where: sql`delivery_id is not null` });

      await keyedTable("key_reads")
        .addColumn("seq", sequence.type, (c) => c.notNull())
        .addColumn("sae_id", text, (c) => c.notNull())
        .addColumn("read_at", "bigint", (c) => c.notNull())
        .addColumn("certificate", bytes(32))
        .addColumn("process_id", bytes(16))
        .addPrimaryKeyConstraint("key_reads_key", ["seq", "sae_id"])
        .addForeignKeyConstraint("read_of_key", ["seq"], "blocks", ["seq"], (c) => c.onDelete("cascade"))
        .execute();

      // Without a foreign key, which would cost every deletion of a block; a number of a block is never used again.
      await table("kept_keys")
        .addColumn("seq", sequence.type, (c) => c.notNull().primaryKey())
        .addColumn("since", "bigint", (c) => c.notNull())
        .execute();
      await index("kept_since", "kept_keys", ["since"]);

      await table("voided_transactions")
        .addColumn("transaction_id", bytes(16), (c) => c.notNull())
        .addColumn("link_id", sequence.type, (c) => c.notNull())
        .addColumn("had_keys", "integer", (c) => c.notNull().check(sql`had_keys in (0, 1, 2)`))
        .addColumn("since", "bigint", (c) => c.notNull())
        .addPrimaryKeyConstraint("voided_key", ["transaction_id", "link_id"])
        .addForeignKeyConstraint("voided_link", ["link_id"], "links", ["id"])
        .execute();

      await keyedTable("key_files")
        .addColumn("link_id", sequence.type, (c) => c.notNull())
        .addColumn("name", text, (c) => c.notNull())
        .addColumn("size", "bigint", (c) => c.notNull())
        .addColumn("digest", bytes(32), (c) => c.notNull())
        .addColumn("taken", "bigint", (c) => c.notNull())
        .addPrimaryKeyConstraint("key_files_key", ["link_id", "name"])
        .addForeignKeyConstraint("file_link", ["link_id"], "links", ["id"])
        .execute();

      await keyedTable("forgotten_files")
        .addColumn("link_id", sequence.type, (c) => c.notNull())
        .addColumn("file_tag", "bigint", (c) => c.notNull())
        .addPrimaryKeyConstraint("forgotten_files_key", ["link_id", "file_tag"])
        .addForeignKeyConstraint("forgotten_link", ["link_id"], "links", ["id"])
        .execute();

      await table("device_batches")
        .addColumn("batch_id", bytes(16), (c) => c.notNull().primaryKey())
        .addColumn("link_id", sequence.type, (c) => c.notNull())
        .addColumn("process_id", bytes(16), (c) => c.notNull())
        .addColumn("asked", "integer", (c) => c.notNull())
        .addColumn("keys", longText)
        .addForeignKeyConstraint("device_batch_of_link", ["link_id"], "links", ["id"])
        .execute();

      await table("byte_counts")
        .addColumn("one", "integer", (c) => c.primaryKey().check(sql`one = 1`))
        .addColumn("counts", varbytes(2048 + STORED_BITS_EXTRA), (c) => c.notNull())
        .execute();

      await table("crls")
        .addColumn("ca", text, (c) => c.notNull().primaryKey())
        .addColumn("this_update", "bigint", (c) => c.notNull())
        .addColumn("crl_number", text)
        .addColumn("der", varbytes(MAX_KEPT_CRL), (c) => c.notNull())
        .execute();

      await table("data_keys")
        .addColumn("number", "integer", (c) => c.primaryKey())
        .addColumn("sealed_key", varbytes(SEALED_KEY_BYTES), (c) => c.notNull())
        .addColumn("resealed_through", "bigint")
        .execute();

      await table("processes")
        .addColumn("process_id", bytes(16), (c) => c.notNull().primaryKey())
        .addColumn("lease_until", "bigint", (c) => c.notNull())
        .execute();

      await table("leases")
        .addColumn("name", text, (c) => c.notNull().primaryKey())
        .addColumn("process_id", bytes(16), (c) => c.notNull())
        .addColumn("lease_until", "bigint", (c) => c.notNull())
        .execute();

      await table("generation")
        .addColumn("one", "integer", (c) => c.primaryKey().check(sql`one = 1`))
        .addColumn("value", "bigint", (c) => c.notNull())
        .execute();
    },
  };
}
