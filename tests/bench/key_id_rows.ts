/** What random key_IDs cost, against digests of blocks, which are stored and indexed anyway. */
import { fileURLToPath } from "node:url";
import { compare, compareCpu, interleave, type Target } from "./comparison.ts";
import { POOL, QUICK, ROUNDS } from "./options.ts";
import type { Row } from "./row.ts";
import { type Request, Site, type Times } from "./site.ts";

const DATABASES = [[":memory:", "`:memory:`"], ["sqlite", "SQLite file"]] as const;

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
  return DATABASES.flatMap(([, title]) => {
    const what = `\`enc_keys\`, one KME, ${title}, random key_IDs against digests`;
    const names = [nameOf(title, "random key_IDs"), nameOf(title, "digests")] as const;
    const cpu = compareCpu(results, `${what}, processor time of the KMEs`, ...names, { atMost: 1.03 });
    return [row(what, "requests/s", ...names, { atLeast: 0.97 }), ...cpu === undefined ? [] : [cpu]];
  });
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
