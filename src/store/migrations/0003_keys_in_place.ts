/**
 * A key that is a block as it stands stays in the row of its block, and what keys of one request have in common is written
 * once. Tables of the first schema are replaced; what they hold is carried over.
 */
import { type Kysely, sql } from "kysely";
import type { Migration } from "kysely/migration";
import type { StoreDialect } from "../dialects/dialect.ts";

/** The first schema's table, while what it holds is carried over. */
const OLD_BLOCKS = "blocks_0001";

export function keysInPlace(dialect: StoreDialect): Migration {
  const { bytes, varbytes, text, sequence } = dialect;
  // deno-lint-ignore no-explicit-any
  const table = (db: Kysely<any>, name: string, suffix = dialect.tableSuffix) => {
    const table = db.schema.createTable(name).modifyEnd(sql.raw(suffix ?? ""));
    return dialect.transactionalDdl ? table : table.ifNotExists();
  };
  const keyedSuffix = dialect.keyedTableSuffix ?? dialect.tableSuffix;
  const index = async (
    // deno-lint-ignore no-explicit-any
    db: Kysely<any>,
    name: string,
    on: string,
    columns: string[],
    some?: ReturnType<typeof sql>,
    unique: "unique" | "" = "",
  ) => {
    if (!dialect.transactionalDdl) {
      const { rows } = await sql`show index from ${sql.table(on)} where key_name = ${name}`.execute(db);
      if (rows.length > 0) return;
    }
    const where = some && dialect.partialIndexes ? sql` where ${some}` : sql``;
    const list = sql.join(columns.map((column) => sql.ref(column)));
    await sql`create ${sql.raw(unique)} index ${sql.id(name)} on ${sql.table(on)} (${list})${where}`.execute(
      db,
    );
  };

  return {
    async up(db) {
      const tables = new Set((await db.introspection.getTables()).map(({ name }) => name));
      // Where a migration that broke off has left tables behind, the next start goes on.
      if (!tables.has(OLD_BLOCKS) && !tables.has("deliveries")) {
        await db.schema.alterTable("blocks").renameTo(OLD_BLOCKS).execute();
        tables.add(OLD_BLOCKS);
      }

      await table(db, "deliveries")
        .addColumn("delivery_id", sequence.type, (c) => c.notNull().primaryKey())
        .addColumn("origin_kme", text, (c) => c.notNull())
        .addColumn("master_sae", text, (c) => c.notNull())
        .addColumn("created_at", "bigint", (c) => c.notNull())
        .addColumn("expires_at", "bigint", (c) => c.notNull())
        .addColumn("transaction_id", bytes(16))
        .addColumn("link_id", sequence.type)
        .execute();
      await index(db, "deliveries_expiry", "deliveries", ["expires_at"]);
      await index(
        db,
        "deliveries_transaction",
        "deliveries",
        ["transaction_id"],
        sql`transaction_id is not null`,
      );

      await table(db, "delivery_slaves", keyedSuffix)
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

      await table(db, "blocks")
        .addColumn("seq", sequence.type, (c) => sequence.define(c).primaryKey())
        .addColumn("block_id", bytes(16), (c) => c.unique())
        .addColumn("key_id", bytes(16))
        .addColumn("link_id", sequence.type, (c) => c.notNull())
        .addColumn("state", "integer", (c) => c.notNull().check(sql`state in (0, 1, 2, 3)`))
        .addColumn("half", "integer", (c) => c.notNull().check(sql`half in (0, 1)`))
        .addColumn("stored_at", "bigint", (c) => c.notNull())
        .addColumn("reservation_id", bytes(16))
        .addColumn("delivery_id", sequence.type)
        // Not of a fixed length: that would be filled up where it is short, instead of being refused.
        .addColumn("bits", varbytes(8192))
        .addColumn("composition", varbytes(8192))
        .addCheckConstraint(
          "set_aside_by_a_reservation",
          sql`(state in (1, 2) and reservation_id is not null) or (state in (0, 3) and reservation_id is null)`,
        )
        .addCheckConstraint(
          "a_block_or_a_key",
          sql`(block_id is not null and key_id is null) or (block_id is null and key_id is not null and state = 3)`,
        )
        .addCheckConstraint(
          "key_of_a_delivery",
          sql`(state = 3 and delivery_id is not null) or (state <> 3 and delivery_id is null and composition is null)`,
        )
        .addCheckConstraint(
          "block_of_32_bytes",
          sql`state = 3 or (bits is not null and length(bits) = 32)`,
        )
        .addForeignKeyConstraint("block_of_link", ["link_id"], "links", ["id"])
        .addForeignKeyConstraint("block_was_seen", ["block_id"], "seen_blocks", ["block_id"])
        .addForeignKeyConstraint("block_of_reservation", ["reservation_id"], "reservations", [
          "reservation_id",
        ])
        .addForeignKeyConstraint("block_of_delivery", ["delivery_id"], "deliveries", ["delivery_id"])
        .execute();
      // The order in which free blocks are taken.
      await index(db, "free_blocks", "blocks", ["link_id", "state", "half", "seq"], sql`state = 0`);
      await index(db, "set_aside_blocks", "blocks", ["reservation_id"], sql`reservation_id is not null`);
      await index(db, "composed_keys", "blocks", ["key_id"], sql`key_id is not null`, "unique");
      await index(db, "delivered_keys", "blocks", ["delivery_id"], sql`delivery_id is not null`);

      await table(db, "key_reads", keyedSuffix)
        .addColumn("seq", sequence.type, (c) => c.notNull())
        .addColumn("sae_id", text, (c) => c.notNull())
        .addColumn("read_at", "bigint", (c) => c.notNull())
        .addPrimaryKeyConstraint("key_reads_key", ["seq", "sae_id"])
        .addForeignKeyConstraint("read_of_key", ["seq"], "blocks", ["seq"], (c) => c.onDelete("cascade"))
        .execute();

      if (!tables.has(OLD_BLOCKS)) return;
      // The first that goes: where it is gone, everything is carried over.
      if (tables.has("key_slaves")) await carryOver(db, dialect);
      await db.schema.dropTable("key_slaves").ifExists().execute();
      await db.schema.dropTable("keys").ifExists().execute();
      await db.schema.dropTable(OLD_BLOCKS).execute();
    },
  };
}

/** Each statement again does no harm. */
// deno-lint-ignore no-explicit-any
async function carryOver(db: Kysely<any>, dialect: StoreDialect): Promise<void> {
  // A table whose every row is copied in one statement; rows that are there already are left out.
  const copy = async (into: string, columns: string[], from: ReturnType<typeof sql>) =>
    await dialect.insertIgnoring(db.insertInto(into).columns(columns).expression(from)).execute();
  const keys = sql.table("keys");
  // Deliveries to come are numbered like blocks, from 1.
  const numbered =
    sql`(select keys_0001.*, -row_number() over (order by key_id) as number from ${keys} keys_0001) numbered`;

  const block = ["block_id", "link_id", "state", "half", "stored_at", "reservation_id", "bits"];
  await copy(
    "blocks",
    block,
    sql`select ${sql.join(block.map((column) => sql.ref(column)))} from ${
      sql.table(OLD_BLOCKS)
    } where true order by seq`,
  );
  await copy(
    "deliveries",
    ["delivery_id", "origin_kme", "master_sae", "created_at", "expires_at", "transaction_id", "link_id"],
    sql`select number, origin_kme, master_sae, created_at, expires_at, transaction_id, link_id from ${numbered} where true`,
  );
  await copy(
    "delivery_slaves",
    ["delivery_id", "sae_id"],
    sql`select number, sae_id from ${numbered} join key_slaves on key_slaves.key_id = numbered.key_id where true`,
  );
  const key = ["link_id", "state", "half", "stored_at", "delivery_id", "bits", "composition"];
  // Only the link of a key that can be taken back matters.
  const values = sql`coalesce(link_id, (select min(id) from links)), 3, 0, created_at, number, bits, blocks`;
  const seen = sql`exists (select 1 from seen_blocks where seen_blocks.block_id = numbered.key_id)`;
  await copy("blocks", ["block_id", ...key], sql`select key_id, ${values} from ${numbered} where ${seen}`);
  await copy("blocks", ["key_id", ...key], sql`select key_id, ${values} from ${numbered} where not ${seen}`);
  await copy(
    "key_reads",
    ["seq", "sae_id", "read_at"],
    sql`select seq, sae_id, read_at from key_slaves
      join blocks on coalesce(blocks.block_id, blocks.key_id) = key_slaves.key_id
      where read_at is not null`,
  );
}
