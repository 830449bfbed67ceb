/**
 * What the store takes longer for random key_IDs than for digests, without the noise of whole requests: two databases in one process, in turn.
 * Prints the microseconds of processor time for each key, with random key_IDs and with digests. Arguments: the database, `:memory:` or the
 * directory for files, and the number of keys.
 */
import process from "node:process";
import type SqliteDatabase from "better-sqlite3";
import { type Block, blockKeyId } from "../../src/domain/block.ts";
import { newKeyIds } from "../../src/domain/key.ts";
import { sqliteDialect } from "../../src/store/dialects/sqlite.ts";
import { LocalExecutor } from "../../src/store/engine/local_executor.ts";
import { deliver } from "../../src/store/operations/deliver.ts";
import { ingestBlocks } from "../../src/store/operations/ingest_blocks.ts";
import type { Operation } from "../../src/store/work.ts";
import { storeDigests } from "./digests_as_key_ids.ts";

/** Requests that share a transaction, as with the load of the bench. */
const BATCH = 16;

/** Milliseconds between two transactions: longer than key_IDs begin alike. */
const PAUSE_MS = 6;

const [where, count] = Deno.args as [string, string];
const keys = Number(count);

const changed = new WeakSet<SqliteDatabase.Database>();
let isChanging = false;
const changes = storeDigests((database) => {
  if (isChanging) changed.add(database);
  return changed.has(database);
});

const one = { text: "1", integer: true };

async function open(name: string) {
  const dialect = sqliteDialect(where === ":memory:" ? where : `${where}/${name}.db`);
  const executor = await LocalExecutor.open({
    dialect,
    thisKme: one,
    neighbours: [],
    processId: new Uint8Array(16),
    now: () => Date.now(),
    onFailure: (error) => console.error(error),
    onDamaged: () => {},
  });
  const link = executor.links.get("1")!;
  const run = async <Item>(operation: Operation<Item, unknown>, items: readonly Item[]) => {
    const calls = items.map((item) => ({ operation: operation as Operation<unknown, unknown>, item }));
    for (const outcome of await executor.run(calls, 0)) {
      if ("error" in outcome) throw outcome.error;
      if (outcome.result === undefined) throw new Error(`${operation.name} found too few blocks`);
    }
  };
  for (let stored = 0; stored < keys; stored += 2000) {
    const blocks = Array.from({ length: 2000 }, (): Block => {
      const bits = crypto.getRandomValues(new Uint8Array(32));
      return { id: blockKeyId(bits), bits };
    });
    const file = { name: "test.cor", size: 32 * keys, digest: new Uint8Array(32), offset: 32 * stored };
    await run(ingestBlocks, [{ link, blocks, maxFree: Infinity, file }]);
  }
  return {
    times: [] as number[],
    async deliver() {
      const begin = process.cpuUsage();
      await run(
        deliver,
        Array.from({ length: BATCH }, () => ({
          link,
          ids: newKeyIds(1),
          size: 256,
          origin: "1",
          master: "1",
          slaves: ["2"],
          expiresAt: Date.now() + 86_400_000,
        })),
      );
      const { user, system } = process.cpuUsage(begin);
      this.times.push((user + system) / BATCH);
      dialect.tidy?.(true);
    },
  };
}

const random = await open("random");
isChanging = true;
const digests = await open("digests");
isChanging = false;
for (let delivered = 0; delivered + BATCH <= keys; delivered += BATCH) {
  for (const database of delivered / BATCH % 2 === 0 ? [random, digests] : [digests, random]) {
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    await database.deliver();
  }
}
if (changes() < 2) throw new Error("the statements of the store are others now: nothing was changed");
/** The median, without the first half: the program is compiled then, and the index is small. */
const typical = (times: number[]) => times.slice(times.length / 2).sort((a, b) => a - b)[times.length >> 2]!;
console.log(`${typical(random.times)} ${typical(digests.times)}`);
Deno.exit(0);
