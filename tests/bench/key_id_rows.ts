/** What random key_IDs cost, against digests of blocks, which are stored and indexed anyway. */
import { fileURLToPath } from "node:url";
import { makeTempDir } from "../harness/temp_dir.ts";
import { compare, interleave, type Target } from "./comparison.ts";
import { print } from "./load_process.ts";
import { POOL, QUICK, ROUNDS } from "./options.ts";
import { type Row, rowOf } from "./row.ts";
import { type Request, Site, type Times } from "./site.ts";
import { spread } from "./stats.ts";

const DATABASES = [[":memory:", "`:memory:`"], ["sqlite", "SQLite file"]] as const;

/** Keys of a measurement of the store alone. */
const STORE_KEYS = POOL / 5;

const REQUEST: Request = { way: "enc", slave: "local" };

/** Long runs: the difference is small. */
const TIMES: Times = QUICK ? { seconds: 3, warmup: 1.5 } : { seconds: 8, warmup: 3 };

const WITH_DIGESTS = { script: fileURLToPath(new URL("start_with_digests.ts", import.meta.url)) };

export async function keyIds(): Promise<Row[]> {
  await using stack = new AsyncDisposableStack();
  const targets: Target[] = [];
  for (const [database, title] of DATABASES) {
    for (const [ids, program] of [["random key_IDs", undefined], ["digests", WITH_DIGESTS]] as const) {
      const site = stack.use(await Site.make([database, ":memory:"], { program }));
      await requireCollectable(site, program === undefined);
      targets.push({
        name: nameOf(title, ids),
        run: () => site.runAfresh(REQUEST, TIMES, POOL),
      });
    }
  }
  const results = await interleave(targets, 2 * ROUNDS);
  const row = compare(results);
  const rows: Row[] = [];
  for (const [database, title] of DATABASES) {
    const what = `\`enc_keys\`, one KME, ${title}, random key_IDs against digests`;
    const names = [nameOf(title, "random key_IDs"), nameOf(title, "digests")] as const;
    // Rates of whole requests differ more from run to run than these two, so the goal is for the time of the store.
    rows.push(row(what, "requests/s", ...names));
    const requests = results.get(names[0])!.flatMap(({ cpu }) => cpu.servers ?? []);
    if (requests.length === 0) continue;
    const { median } = spread(requests);
    const extra = await storeTimes(database);
    rows.push(rowOf(
      `${what}: processor time of a request, against it without what the store takes longer`,
      "µs",
      extra.map(() => median),
      extra.map((difference) => median - difference),
      { atMost: 1.03 },
    ));
  }
  return rows;
}

/** Microseconds of processor time that the store takes longer for a random key_ID, each of a new process. */
async function storeTimes(database: string): Promise<number[]> {
  const differences: number[] = [];
  for (let round = 1; round <= ROUNDS; round++) {
    await using directory = await makeTempDir();
    const where = database === ":memory:" ? database : directory.path;
    const [random, digests] = (await print("key_id_store.ts", [where, String(STORE_KEYS)])).split(" ").map(
      Number,
    );
    console.error(
      `round ${round}/${ROUNDS} the store, ${database}: ${random} µs with random key_IDs, ${digests} with digests`,
    );
    differences.push(random! - digests!);
  }
  return differences;
}

function nameOf(database: string, ids: string): string {
  return `enc_keys, one KME, ${database}, ${ids}`;
}

/** Makes sure that key_IDs are stored, or that they are not: otherwise the program would be compared with itself. */
async function requireCollectable(site: Site, collectable: boolean): Promise<void> {
  await site.renew();
  await site.fill("local", 1);
  using master = site.network.client("1");
  using slave = site.network.client("2");
  const { status, json } = await master.encKeys("2");
  if (status !== 200) throw new Error(`enc_keys is answered with ${status}`);
  const { status: found } = await slave.decKeys("1", json.keys[0].key_ID);
  if (found !== (collectable ? 200 : 400)) throw new Error(`dec_keys is answered with ${found}`);
}
