/** What a large stock costs: speed, start-up, memory. */
import { POOLS, QUICK, ROUNDS } from "./options.ts";
import { type Row, rowOf } from "./row.ts";
import { compare, interleave, type Target } from "./comparison.ts";
import { Site, type Times } from "./site.ts";

/**
 * By requests, the same for all pools: the smallest is used up to a half, and every site has seen the same number of keys. A
 * run's p99 is of the four fifths after the warm-up; there are more rounds instead.
 */
const TIMES: Times = { seconds: 30, warmup: 30, requests: 5000 };

export async function pools(): Promise<Row[]> {
  const { small: few, middle: some, large: many } = POOLS;
  await using empty = await Site.start(["sqlite", ":memory:"]);
  await using small = await Site.start(["sqlite", ":memory:"]);
  await using middle = await Site.start(["sqlite", ":memory:"]);
  await using large = await Site.start(["sqlite", ":memory:"]);
  await small.fill("local", few);
  await middle.fill("local", some);
  await large.fill("local", many);

  const starts = { empty: [] as number[], large: [] as number[] };
  const memories = { small: [] as number[], large: [] as number[] };
  const begun = {
    empty: async () => void starts.empty.push(await empty.restart()),
    large: async () => {
      starts.large.push(await large.restart());
      memories.large.push(residentMemory(large));
    },
    small: async () => {
      await small.restart();
      memories.small.push(residentMemory(small));
    },
  };
  // More often than there are rounds: a start takes less than a second, and its time varies.
  for (let i = 0; i < 3 * ROUNDS; i++) {
    const turns = [begun.empty, begun.large, begun.small];
    for (const start of i % 2 === 0 ? turns : turns.toReversed()) await start();
  }

  const target = (name: string, site: Site, stock: number): Target => ({
    name,
    run: () => site.run({ way: "enc", slave: "local" }, TIMES, stock),
  });
  const targets = [target("small", small, few), target("middle", middle, some), target("large", large, many)];
  await interleave(targets, 1); // processes that have just been started
  const results = await interleave(targets, QUICK ? 2 * ROUNDS : 3 * ROUNDS);
  const row = compare(results);
  const p99 = (name: string) => results.get(name)!.map((result) => result.p99);
  const against = (blocks: number) => `enc_keys at ${blocks} blocks against ${few}, SQLite file`;
  return [
    row(against(some), "requests/s", "middle", "small"),
    row(against(many), "requests/s", "large", "small", { atLeast: 0.95 }),
    rowOf(`${against(some)}, p99`, "ms", p99("middle"), p99("small")),
    rowOf(`${against(many)}, p99`, "ms", p99("large"), p99("small"), { atMost: 1.2 }),
    rowOf(`start until ready, ${many} stored blocks against none`, "s", starts.large, starts.empty, {
      atMost: 1.3,
    }),
    rowOf(
      `resident memory at the start, ${many} blocks on a file against ${few}`,
      "MiB",
      memories.large,
      memories.small,
      { atMost: 1.3 },
    ),
    rowOf(
      `resident memory after the load, ${many} blocks on a file against ${few}`,
      "MiB",
      [residentMemory(large)],
      [residentMemory(small)],
      { atMost: 1.3 },
    ),
  ];
}

/** MiB of KME 1. */
function residentMemory(site: Site): number {
  const status = Deno.readTextFileSync(`/proc/${site.pids[0]}/status`);
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)![1]) / 1024;
}
