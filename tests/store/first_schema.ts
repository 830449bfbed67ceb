/** A database as the first version of the program left it, what that version did in it, and migrations that are disturbed. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { Kysely, sql } from "kysely";
import type { Migration } from "kysely/migration";
import type { Block, KeyIdBytes } from "../../src/domain/block.ts";
import type { StoreDialect } from "../../src/store/dialects/dialect.ts";
import { openDialect } from "../../src/store/dialects/open.ts";
import { migrate, migrations } from "../../src/store/migrations/migrate.ts";
import type { Schema } from "../../src/store/table_schema.ts";
import { freshId, type Ledger, OWN, PEER } from "./store_fixture.ts";

export const HOUR = 3_600_000;

/** Links of the database of the first version. */
export const OWN_LINK = 7;
export const PEER_LINK = 8;

/** Opens the database beside the store, for as long as `use` lasts. */
export async function withDatabase<T>(
  ledger: Ledger,
  use: (first: FirstSchema, db: Kysely<Schema>, dialect: StoreDialect) => Promise<T>,
): Promise<T> {
  const dialect = openDialect(ledger.database, () => {});
  const db = new Kysely<Schema>({ dialect: dialect.kysely });
  try {
    return await use(new FirstSchema(db), db, dialect);
  } finally {
    await db.destroy();
  }
}

/** Makes the tables of the first version, with two links; `fill` puts something in. */
export async function makeFirstSchema(
  ledger: Ledger,
  fill: (first: FirstSchema) => Promise<void>,
): Promise<void> {
  await withDatabase(ledger, async (first, db, dialect) => {
    const [ledger, generation] = Object.entries(migrations(dialect));
    await migrate(db, dialect, Object.fromEntries([ledger!, generation!]));
    await first.insert("links", { id: OWN_LINK, kme_id: OWN.text });
    await first.insert("links", { id: PEER_LINK, kme_id: PEER.text });
    await fill(first);
  });
}

export interface FirstKey {
  readonly id: KeyIdBytes;
  readonly bits: Uint8Array | null;
  /** Each with the time at which it read the key. */
  readonly slaves: Readonly<Record<string, number | null>>;
  /** What it is made of, and by which transaction of the peer. */
  readonly returnable?: { readonly transaction: KeyIdBytes; readonly blocks: readonly KeyIdBytes[] };
  readonly expiresAt?: number;
}

/** Rows of the first version, and what it did with them. */
export class FirstSchema {
  readonly #db: Kysely<Schema>;

  constructor(db: Kysely<Schema>) {
    this.#db = db;
  }

  async insert(table: string, row: Record<string, unknown>, db: Kysely<Schema> = this.#db): Promise<void> {
    const values = Object.values(row).map((value) =>
      value instanceof Uint8Array ? Buffer.from(value) : value
    );
    const names = Object.keys(row).map((name) => sql.ref(name));
    await sql`insert into ${sql.table(table)} (${sql.join(names)}) values (${sql.join(values)})`.execute(db);
  }

  /** A block that was taken up. */
  async block(
    { id, bits }: Block,
    { reservation, db = this.#db }: { reservation?: KeyIdBytes; db?: Kysely<Schema> } = {},
  ): Promise<void> {
    await this.insert("seen_blocks", { block_id: id }, db);
    await this.insert("blocks", {
      block_id: id,
      link_id: OWN_LINK,
      state: reservation === undefined ? 0 : 1,
      half: id[15]! & 1,
      stored_at: Date.now(),
      reservation_id: reservation ?? null,
      bits,
    }, db);
  }

  /** The number of free blocks of a link. */
  async stock(link: number, free: number): Promise<void> {
    for (let slot = 0; slot < 8; slot++) {
      await this.insert("stock", { link_id: link, slot, free: slot === 3 ? free : 0 });
    }
  }

  async key(
    { id, bits, slaves, returnable, expiresAt }: FirstKey,
    db: Kysely<Schema> = this.#db,
  ): Promise<void> {
    await this.insert("keys", {
      key_id: id,
      origin_kme: PEER.text,
      master_sae: "21",
      created_at: Date.now(),
      expires_at: expiresAt ?? Date.now() + HOUR,
      bits,
      transaction_id: returnable?.transaction ?? null,
      link_id: returnable === undefined ? null : PEER_LINK,
      blocks: returnable === undefined ? null : Buffer.concat(returnable.blocks),
    }, db);
    for (const [sae_id, read_at] of Object.entries(slaves)) {
      await this.insert("key_slaves", { key_id: id, sae_id, read_at }, db);
    }
  }

  /** Hands a free block out as it stands; the key, or `undefined` where it finds none. */
  async deliver(slave: string): Promise<Block | undefined> {
    return await this.#db.transaction().execute(async (trx) => {
      const { rows: [row] } = await sql<{ seq: number; block_id: Uint8Array; bits: Uint8Array }>`
        select seq, block_id, bits from blocks where link_id = ${OWN_LINK} and state = 0 order by seq limit 1
      `.execute(trx);
      if (row === undefined) return undefined;
      const block = { id: Uint8Array.from(row.block_id), bits: Uint8Array.from(row.bits) };
      await sql`delete from blocks where seq = ${row.seq}`.execute(trx);
      await this.key({ ...block, slaves: { [slave]: null } }, trx);
      await sql`update stock set free = free - 1 where link_id = ${OWN_LINK} and slot = 3`.execute(trx);
      return block;
    });
  }

  /** Stores a block of a file. */
  async ingestBlocks(block: Block): Promise<void> {
    await this.#db.transaction().execute(async (trx) => {
      await this.block(block, { db: trx });
      await sql`update stock set free = free + 1 where link_id = ${OWN_LINK} and slot = 3`.execute(trx);
    });
  }

  /** A slave reads a key. */
  async read(id: KeyIdBytes, slave: string): Promise<void> {
    const { numAffectedRows } = await sql`
      update key_slaves set read_at = ${Date.now()} where key_id = ${Buffer.from(id)} and sae_id = ${slave}
    `.execute(this.#db);
    assert.equal(numAffectedRows, 1n);
  }

  /** A key has expired. */
  async remove(id: KeyIdBytes): Promise<void> {
    await sql`delete from ${sql.table("keys")} where key_id = ${Buffer.from(id)}`.execute(this.#db);
  }
}

/** What happens around the statements of a migration that change something. */
export interface Disturbance {
  /** Before the statement of this number, from 1: where it throws, the migration breaks off. */
  readonly before?: (statement: number) => void;
  /** After the statement of this number has come to its end. */
  readonly after?: (statement: number) => Promise<void>;
}

/** Migrates as a start does; returns why it broke off. */
export async function migrateDisturbed(
  ledger: Ledger,
  { before = () => {}, after = () => Promise.resolve() }: Disturbance,
): Promise<Error | undefined> {
  return await withDatabase(ledger, async (_, db, dialect) => {
    let statements = 0;
    const disturbed = Object.entries(migrations(dialect)).map((
      [name, { up }],
    ): [string, Migration] => [name, {
      up: (inner) =>
        up(inner.withPlugin({
          transformQuery: ({ node }) => {
            if (node.kind !== "SelectQueryNode") before(++statements);
            return node;
          },
          transformResult: async ({ result }) => {
            await after(statements);
            return result;
          },
        })),
    }]);
    return await migrate(db, dialect, Object.fromEntries(disturbed))
      .then(() => undefined, (error: Error) => error);
  });
}

/**
 * Breaks off after each statement that changes something in turn, until it comes to its end; returns how often.
 *
 * @param between what happens after each time.
 */
export async function migrateWithBreaks(
  ledger: Ledger,
  between: () => Promise<void> = () => Promise.resolve(),
): Promise<number> {
  // Where a migration is one transaction, nothing is left of it; elsewhere what is there is gone over again.
  for (let allowed = 1; allowed < 200; allowed++) {
    const failure = await migrateDisturbed(ledger, {
      before: (statement) => {
        if (statement > allowed) throw new Error("broken off");
      },
    });
    if (failure === undefined) return allowed - 1;
    assert.match(failure.message, /broken off/);
    await between();
  }
  throw new Error("does not end");
}

/** A transaction of the peer made a key of these blocks, which it may take back. */
export function returnable(blocks: readonly Block[]): NonNullable<FirstKey["returnable"]> {
  return { transaction: freshId(), blocks: blocks.map((block) => block.id) };
}
