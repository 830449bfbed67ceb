/** What the database itself forbids, whatever the program does. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { sql, type Updateable } from "kysely";
import { clearBits } from "../../src/store/encryption/bits_cipher.ts";
import type { BlocksTable } from "../../src/store/table_schema.ts";
import { audit, delivery, fill, freshBlocks, freshId, ledgerTest, OWN } from "./store_fixture.ts";

const storedBits = (bits: Uint8Array) => clearBits.seal("byteCounts", bits);

ledgerTest("the tables' constraints forbid what must never be", async (ledger) => {
  const store = await ledger.open();
  const blocks = await fill(store, 4);
  const link = store.link(OWN.text)!;
  const [key] = (await store.deliver(delivery(store)))!;
  const reservation = freshId();
  await store.reserve({ reservation, claims: [{ link, blocks: 1 }] });
  const before = await audit(ledger);
  assert.deepEqual(before, { seen: 4, free: 2, reserved: 1, keys: 1, waiting: 1, reservations: 1 });

  const { tables } = ledger;
  const free = await tables.selectFrom("blocks").selectAll().where("state", "=", 0).executeTakeFirstOrThrow();
  const { seq: _, ...block } = free;
  const made = await tables.selectFrom("blocks").selectAll().where("key_id", "=", Buffer.from(key!.id))
    .executeTakeFirstOrThrow();
  const fresh = freshBlocks(1)[0]!;
  // The first time it has to be allowed, or the second proves nothing.
  const twice = (insert: (trx: typeof tables) => Promise<unknown>) =>
    tables.transaction().execute(async (trx) => {
      await insert(trx).catch((error) => once.push(error.message));
      await insert(trx);
    });
  const once: string[] = [];
  const change = ({ seq }: { seq: number }, values: Updateable<BlocksTable>) =>
    tables.updateTable("blocks").set(values).where("seq", "=", seq).execute();
  const forbidden: [what: string, run: () => Promise<unknown>][] = [
    ["a block twice in the pool", () => tables.insertInto("blocks").values(block).execute()],
    [
      "a block twice among those ever seen",
      () => tables.insertInto("seen_blocks").values({ block_id: Buffer.from(blocks[0]!.id) }).execute(),
    ],
    [
      "a block that was not seen",
      () =>
        tables.insertInto("blocks").values({
          ...block,
          block_id: Buffer.from(fresh.id),
          bits: storedBits(fresh.bits),
        })
          .execute(),
    ],
    [
      "forgetting a block that is in the pool",
      () => tables.deleteFrom("seen_blocks").where("block_id", "=", free.block_id).execute(),
    ],
    [
      "a reserved block without a reservation",
      () => change(free, { state: 1 }),
    ],
    [
      "a free block with a reservation",
      () => change(free, { reservation_id: Buffer.from(reservation) }),
    ],
    [
      "a reservation that does not exist",
      () => change(free, { state: 1, reservation_id: Buffer.from(freshId()) }),
    ],
    [
      "removing a reservation that has blocks",
      () =>
        tables.deleteFrom("reservations").where("reservation_id", "=", Buffer.from(reservation)).execute(),
    ],
    [
      "a pad without a reservation",
      () => change(free, { state: 2 }),
    ],
    [
      "another state of a block",
      () => change(free, { state: 6 }),
    ],
    [
      "a key of no delivery",
      () => change(free, { state: 3 }),
    ],
    [
      "a key of a delivery that does not exist",
      () => change(free, { state: 3, delivery_id: 9999 }),
    ],
    [
      "a free block of a delivery",
      () => change(free, { delivery_id: made.delivery_id }),
    ],
    [
      "a key that is free again and keeps its delivery",
      () => change(made, { state: 0 }),
    ],
    [
      "a key that is reserved",
      () => change(made, { reservation_id: Buffer.from(reservation) }),
    ],
    [
      "removing a delivery that has keys",
      () => tables.deleteFrom("deliveries").execute(),
    ],
    [
      "a block without its digest",
      () => tables.insertInto("blocks").values({ ...block, block_id: null }).execute(),
    ],
    [
      "a key_ID twice",
      () => {
        const { seq: _, ...row } = made;
        return tables.insertInto("blocks").values({ ...row, block_id: null }).execute();
      },
    ],
    [
      "a key without a key_ID",
      () => change(made, { key_id: null }),
    ],
    [
      "a free block with a key_ID",
      () => change(free, { key_id: Buffer.from(freshId()) }),
    ],
    [
      "a block without bits",
      () => change(free, { bits: null }),
    ],
    [
      "another half of a block",
      () => change(free, { half: 2 }),
    ],
    [
      "a block of another length",
      () => change(free, { bits: storedBits(Buffer.alloc(31)) }),
    ],
    [
      "a block longer than a block",
      () => change(free, { bits: storedBits(Buffer.alloc(33)) }),
    ],
    [
      "a block of no link",
      () => change(free, { link_id: 99 }),
    ],
    ["another phase of a reservation", () => tables.updateTable("reservations").set({ phase: 4 }).execute()],
    [
      "a reservation twice",
      () =>
        tables.insertInto("reservations").columns(["reservation_id", "phase", "process_id", "since", "plan"])
          .expression(
            tables.selectFrom("reservations").select([
              "reservation_id",
              "phase",
              "process_id",
              "since",
              "plan",
            ]),
          ).execute(),
    ],
    [
      "a key twice",
      () =>
        tables.insertInto("blocks").columns([
          "block_id",
          "link_id",
          "state",
          "half",
          "stored_at",
          "delivery_id",
        ])
          .expression(
            tables.selectFrom("blocks").select([
              "block_id",
              "link_id",
              "state",
              "half",
              "stored_at",
              "delivery_id",
            ]).where("seq", "=", made.seq),
          ).execute(),
    ],
    [
      "a delivery twice",
      () =>
        tables.insertInto("deliveries").columns([
          "delivery_id",
          "origin_kme",
          "master_sae",
          "created_at",
          "expires_at",
        ])
          .expression(
            tables.selectFrom("deliveries").select([
              "delivery_id",
              "origin_kme",
              "master_sae",
              "created_at",
              "expires_at",
            ]),
          ).execute(),
    ],
    [
      "a slave twice",
      () =>
        tables.insertInto("delivery_slaves").values({ delivery_id: made.delivery_id!, sae_id: "12" })
          .execute(),
    ],
    [
      "a slave of no delivery",
      () => tables.insertInto("delivery_slaves").values({ delivery_id: 9999, sae_id: "12" }).execute(),
    ],
    [
      "a key read twice",
      () =>
        twice((trx) =>
          trx.insertInto("key_reads").values({ seq: made.seq, sae_id: "12", read_at: 0 }).execute()
        ),
    ],
    [
      "a key read that is not there",
      () => tables.insertInto("key_reads").values({ seq: 9999, sae_id: "12", read_at: 0 }).execute(),
    ],
    [
      "an SAE id that would have to be cut",
      () => tables.insertInto("links").values({ kme_id: "x".repeat(300) }).execute(),
    ],
    ["a link twice", () => tables.insertInto("links").values({ kme_id: OWN.text }).execute()],
    ["removing a link that has blocks", () => tables.deleteFrom("links").where("id", "=", link.id).execute()],
    [
      "a second KME",
      () => tables.insertInto("kme").values({ one: 2, kme_id: "2", database_id: freshId() }).execute(),
    ],
    [
      "the KME twice",
      () => tables.insertInto("kme").values({ one: 1, kme_id: "2", database_id: freshId() }).execute(),
    ],
    [
      "a stock twice",
      () => tables.insertInto("stock").values({ link_id: link.id, slot: 0, free: 5 }).execute(),
    ],
    [
      "another sign of a taken-back transaction",
      () =>
        tables.insertInto("voided_transactions").values({
          transaction_id: Buffer.from(freshId()),
          link_id: link.id,
          had_keys: 3,
          since: 0,
        })
          .execute(),
    ],
  ];
  for (const [what, run] of forbidden) {
    // SQLite knows no length of texts.
    if (what.startsWith("an SAE id") && !ledger.shared) continue;
    const error = await run().then(() => undefined, (error: unknown) => error);
    assert.ok(error instanceof Error, `${ledger.kind} allows ${what}`);
    assert.equal(ledger.dialect.classify(error), "fault", `${what}: ${error.message}`);
  }
  assert.deepEqual(once, []);
  assert.deepEqual(await audit(ledger), before);
});

ledgerTest("every statement on the path of a request uses an index", async (ledger) => {
  const store = await ledger.open();
  await fill(store, 200);
  const { tables } = ledger;
  const id = Buffer.from(freshId());
  const queries = {
    claim: tables.selectFrom("blocks").select(["seq", "block_id", "bits"]).where("link_id", "=", 1).where(
      "state",
      "=",
      sql.lit(0),
    )
      .where("half", "=", 0).orderBy("seq", "desc").limit(5),
    settle: tables.selectFrom("blocks").selectAll().where("reservation_id", "in", [id]),
    activate: tables.selectFrom("blocks").selectAll().where("block_id", "in", [id]),
    collect: tables.selectFrom("blocks").selectAll().where("key_id", "in", [id]),
    deliveries: tables.selectFrom("deliveries")
      .leftJoin("delivery_slaves", "delivery_slaves.delivery_id", "deliveries.delivery_id").selectAll()
      .where("deliveries.delivery_id", "in", [1, 2]),
    repeated: tables.selectFrom("blocks")
      .innerJoin("deliveries", "deliveries.delivery_id", "blocks.delivery_id")
      .leftJoin("delivery_slaves", "delivery_slaves.delivery_id", "deliveries.delivery_id").selectAll()
      .where("key_id", "in", [id]),
    ended: tables.selectFrom("deliveries").select("delivery_id").where("delivery_id", "in", [1, 2])
      .where((e) =>
        e.not(e.exists(
          e.selectFrom("blocks").select("seq").whereRef("blocks.delivery_id", "=", "deliveries.delivery_id"),
        ))
      ),
    reads: tables.selectFrom("key_reads").selectAll().where("seq", "in", [1, 2]),
    takeBack: tables.selectFrom("deliveries").selectAll().where("transaction_id", "=", id),
    keysOf: tables.selectFrom("blocks").selectAll().where("delivery_id", "in", [1, 2]),
    expire: tables.selectFrom("deliveries").select("delivery_id").where("expires_at", "<=", 0)
      .orderBy("expires_at").limit(5),
    voided: tables.selectFrom("voided_transactions").selectAll().where("transaction_id", "in", [id]),
    seen: tables.selectFrom("seen_blocks").selectAll().where("block_id", "in", [id]),
    progress: tables.selectFrom("key_files").selectAll().where("link_id", "=", 1).where("name", "=", "a"),
  };
  for (const [name, query] of Object.entries(queries)) {
    if (ledger.kind === "postgres") {
      // So few rows would be read one by one, if that were not ruled out.
      const plan = await tables.connection().execute(async (connection) => {
        await sql`set enable_seqscan = off`.execute(connection);
        const { sql: text, parameters } = query.compile();
        const bound = text.replace(/\$(\d+)/g, (_, i) => literal(parameters[i - 1]));
        const { rows } = await sql.raw<{ "QUERY PLAN": string }>(`explain ${bound}`).execute(connection);
        await sql`set enable_seqscan = on`.execute(connection);
        return rows.map((row) => row["QUERY PLAN"]).join("\n");
      });
      assert.doesNotMatch(plan, /Seq Scan/, `${name}: ${plan}`);
      assert.doesNotMatch(plan, /\bSort\b/, `${name}: ${plan}`);
    } else if (ledger.kind === "mariadb") {
      const { sql: text, parameters } = query.compile();
      let i = 0;
      const bound = text.replace(/\?/g, () => literal(parameters[i++], "x"));
      const { rows } = await sql.raw<{ type: string | null; key: string | null; Extra: string }>(
        `explain ${bound}`,
      )
        .execute(tables);
      for (const row of rows) {
        assert.notEqual(row.type, "ALL", `${name}: ${JSON.stringify(row)}`);
        assert.doesNotMatch(row.Extra ?? "", /filesort/, `${name}: ${JSON.stringify(row)}`);
      }
    } else {
      const rows = await query.explain();
      const plan = JSON.stringify(rows);
      assert.doesNotMatch(plan, /SCAN|TEMP B-TREE/, `${name}: ${plan}`);
    }
  }
});

function literal(value: unknown, form: "x" | "\\x" = "\\x"): string {
  if (Buffer.isBuffer(value)) {
    return form === "x" ? `x'${value.toString("hex")}'` : `'\\x${value.toString("hex")}'`;
  }
  return typeof value === "number" ? String(value) : `'${value}'`;
}
