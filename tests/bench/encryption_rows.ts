/** What the encryption of stored keys costs, against the same KME without it. */
import type { ConfigFile } from "../harness/test_network.ts";
import { compare, interleave, type Target } from "./comparison.ts";
import { POOL, POOLS, ROUNDS, TIMES } from "./options.ts";
import { type Row, rowOf } from "./row.ts";
import { type Request, Site } from "./site.ts";

const DATABASES = [[":memory:", "`:memory:`"], ["sqlite", "SQLite file"]] as const;

const REQUESTS: readonly (readonly [name: string, request: Request, pool: number, atLeast: number])[] = [
  ["enc_keys, one KME", { way: "enc", slave: "local" }, POOL, 0.9],
  ["128 keys in one request", { way: "enc", slave: "local", keys: 128 }, 4 * POOL, 0.75],
];

/** Writes a key for tests beside the databases, which are made anew for each run. */
function withEncryption({ this_kme }: ConfigFile): void {
  const path = `${this_kme.key_directory_to_watch}/../store.key`;
  Deno.writeTextFileSync(path, "7e57".repeat(16), { mode: 0o600 });
  this_kme.store_encryption = { key_file: path };
}

export async function encryption(): Promise<Row[]> {
  await using stack = new AsyncDisposableStack();
  const targets: Target[] = [];
  for (const [database, title] of DATABASES) {
    for (const [suffix, edit] of [["", undefined], [", encrypted", withEncryption]] as const) {
      const site = stack.use(await Site.make([database, ":memory:"], { edit }));
      for (const [name, request, pool] of REQUESTS) {
        targets.push({
          name: `${name}, ${title}${suffix}`,
          keys: request.keys,
          run: () => site.runAfresh(request, TIMES, pool),
        });
      }
    }
  }
  const row = compare(await interleave(targets));
  return [
    ...DATABASES.flatMap(([, title]) =>
      REQUESTS.map(([name, { keys }, , atLeast]) =>
        row(
          `${name}, ${title}, encrypted against in the clear`,
          keys === undefined ? "requests/s" : "keys/s",
          `${name}, ${title}, encrypted`,
          `${name}, ${title}`,
          { atLeast },
        )
      )
    ),
    await ingestion(),
  ];
}

async function ingestion(): Promise<Row> {
  const blocks = POOLS.large / 2;
  const rates: Record<"encrypted" | "clear", number[]> = { encrypted: [], clear: [] };
  await using encrypted = await Site.make(["sqlite", ":memory:"], { edit: withEncryption });
  await using clear = await Site.make(["sqlite", ":memory:"]);
  for (let i = 0; i < ROUNDS; i++) {
    const order = [["encrypted", encrypted], ["clear", clear]] as const;
    for (const [name, site] of i % 2 === 0 ? order : order.toReversed()) {
      await site.renew();
      await site.fill("local", 1); // what is done once is not measured
      const appear = await site.prepare("local", blocks);
      const begin = performance.now();
      await appear();
      rates[name].push(blocks * 1000 / (performance.now() - begin));
    }
  }
  return rowOf(
    "ingestion, SQLite file, encrypted against in the clear",
    "blocks/s",
    rates.encrypted,
    rates.clear,
    { atLeast: 0.75 },
  );
}
