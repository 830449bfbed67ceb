/** A bare better-sqlite3 insert of the rows that ingestion makes, in one transaction: prints seconds. */
import Database from "better-sqlite3";
import { randomBytes } from "node:crypto";

const [path, count] = Deno.args as [string, string];
const database = new Database(path);
database.pragma("journal_mode = WAL");
database.pragma("synchronous = FULL");
database.exec(`create table seen_blocks (block_id blob not null primary key) without rowid;
create table blocks (seq integer primary key, block_id blob not null unique, link_id integer not null,
  state integer not null, half integer not null, stored_at integer not null, reservation_id blob, bits blob not null);
create index blocks_free on blocks (link_id, state, half, seq);
create index blocks_reserved on blocks (reservation_id) where reservation_id is not null;`);
const rows = Array.from({ length: Number(count) }, () => ({ id: randomBytes(16), bits: randomBytes(32) }));
const seen = database.prepare("insert into seen_blocks values (?)");
const block = database.prepare(
  "insert into blocks (block_id, link_id, state, half, stored_at, reservation_id, bits) values (?, 1, 0, ?, ?, null, ?)",
);
const begin = performance.now();
database.transaction(() => {
  for (const { id, bits } of rows) {
    seen.run(id);
    block.run(id, id[15]! & 1, begin, bits);
  }
})();
console.log((performance.now() - begin) / 1000);
database.close();
