/**
 * A key that is a block as it stands stays in the row of its block, and what keys of one request have in common is written
 * once. Tables of the first schema are replaced; what they hold is carried over.
 */
import { type Kysely, sql } from "kysely";
import type { Migration } from "kysely/migration";
import type { StoreDialect } from "../dialects/dialect.ts";
import { tableNames } from "./tables.ts";

/** The tables of the first schema that are replaced. */
const REPLACED = ["blocks", "keys", "key_slaves"];

/** Their names meanwhile: a program of the first schema, which knows none of this, finds nothing to go on with. */
const old = (table: string) => `${table}_0001`;

/** The name of the new `blocks` until all is carried over, for the same reason. */
const BLOCKS = "blocks_0003";

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
      const tables = await tableNames(db);
      // Where a migration that broke off has left tables behind, the next start goes on.
      if (tables.has("keys")) await setAside(db, dialect);
      else if (tables.has("blocks")) return; // its name is the last that the new table gets

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

      await table(db, BLOCKS)
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
      await index(db, "free_blocks", BLOCKS, ["link_id", "state", "half", "seq"], sql`state = 0`);
      await index(db, "set_aside_blocks", BLOCKS, ["reservation_id"], sql`reservation_id is not null`);
      await index(db, "composed_keys", BLOCKS, ["key_id"], sql`key_id is not null`, "unique");
      await index(db, "delivered_keys", BLOCKS, ["delivery_id"], sql`delivery_id is not null`);

      await table(db, "key_reads", keyedSuffix)
        .addColumn("seq", sequence.type, (c) => c.notNull())
        .addColumn("sae_id", text, (c) => c.notNull())
        .addColumn("read_at", "bigint", (c) => c.notNull())
        .addPrimaryKeyConstraint("key_reads_key", ["seq", "sae_id"])
        .addForeignKeyConstraint("read_of_key", ["seq"], BLOCKS, ["seq"], (c) => c.onDelete("cascade"))
        .execute();

      // The first that goes: where it is gone, everything is carried over.
      if (tables.has("keys") || tables.has(old("key_slaves"))) {
        if (dialect.transactionalDdl) await carryOver(db);
        else await db.transaction().execute(carryOver);
      }
      for (const name of REPLACED.toReversed()) await db.schema.dropTable(old(name)).ifExists().execute();
      await db.schema.alterTable(BLOCKS).renameTo("blocks").execute();
    },
  };
}

/** All at once: together with the rest of the migration, or in one statement. */
// deno-lint-ignore no-explicit-any
async function setAside(db: Kysely<any>, dialect: StoreDialect): Promise<void> {
  if (!dialect.transactionalDdl) {
    const renamed = REPLACED.map((name) => sql`${sql.table(name)} to ${sql.table(old(name))}`);
    await sql`rename table ${sql.join(renamed)}`.execute(db);
    return;
  }
  for (const name of REPLACED) await db.schema.alterTable(name).renameTo(old(name)).execute();
}

/** In one transaction. Nobody else uses any of the tables, so that each statement finds the same rows. */
// deno-lint-ignore no-explicit-any
async function carryOver(db: Kysely<any>): Promise<void> {
  const run = (statement: string) => sql.raw(statement).execute(db);
  // What an attempt that broke off may have committed just so.
  for (const table of ["key_reads", BLOCKS, "delivery_slaves", "deliveries"]) {
    await run(`delete from ${table}`);
  }

  const block = "block_id, link_id, state, half, stored_at, reservation_id, bits";
  await run(`insert into ${BLOCKS} (${block}) select ${block} from blocks_0001 order by seq`);

  // Each key is a delivery. Those to come are numbered like blocks, from 1.
  const numbered =
    "(select keys_0001.*, -row_number() over (order by key_id) as number from keys_0001) numbered";
  const delivery = "origin_kme, master_sae, created_at, expires_at, transaction_id, link_id";
  await run(
    `insert into deliveries (delivery_id, ${delivery}) select number, ${delivery} from ${numbered}`,
  );
  await run(`insert into delivery_slaves (delivery_id, sae_id) select number, sae_id from ${numbered}
    join key_slaves_0001 on key_slaves_0001.key_id = numbered.key_id`);

  // Kept like keys of several blocks, also those that were one: of these the row is gone. Link, half and time say nothing.
  await run(`insert into ${BLOCKS} (key_id, link_id, state, half, stored_at, delivery_id, bits, composition)
    select key_id, coalesce(link_id, (select min(id) from links)), 3, 0, 0, number, bits, blocks from ${numbered}`);
  await run(`insert into key_reads (seq, sae_id, read_at) select seq, sae_id, read_at from key_slaves_0001
    join ${BLOCKS} on ${BLOCKS}.key_id = key_slaves_0001.key_id where read_at is not null`);

  await requireAs(db, BLOCKS, "blocks_0001", "keys_0001");
  await requireAs(db, "deliveries", "keys_0001");
  await requireAs(db, "delivery_slaves", "key_slaves_0001");
  await requireAs(db, "key_reads", "key_slaves_0001 where read_at is not null");
}

/** @throws Error when the table does not have as many rows as what was copied into it. */
// deno-lint-ignore no-explicit-any
async function requireAs(db: Kysely<any>, into: string, ...from: string[]): Promise<void> {
  const counts = [into, ...from].map((table) => `(select count(*) from ${table})`);
  const [is, ...was] = counts;
  const { rows } = await sql.raw<{ rows_is: number; rows_was: number }>(
    `select ${is} as rows_is, ${was.join(" + ")} as rows_was`,
  ).execute(db);
  const { rows_is, rows_was } = rows[0]!;
  if (Number(rows_is) !== Number(rows_was)) {
    throw new Error(
      `${rows_was} rows of ${from.join(", ")} became ${rows_is} of ${into}; nothing is lost`,
    );
  }
}
