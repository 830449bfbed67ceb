/** What a large stock costs: speed, start-up, memory. */
import { statfs } from "node:fs/promises";
import { tmpdir } from "node:os";
import { residentBytes } from "../harness/process_files.ts";
import { LARGEST_POOL, POOLS, QUICK, ROUNDS } from "./options.ts";
import { type Row, rowOf } from "./row.ts";
import { compare, interleave, type Target } from "./comparison.ts";
import { Site, type Times } from "./site.ts";

/**
 * By requests, the same for all pools: the smallest is used up to a half, and every site has seen the same number of keys. A
 * run's p99 is of the four fifths after the warm-up; there are more rounds instead.
 */
const TIMES: Times = { seconds: 30, warmup: 30, requests: 5000 };

/** Bytes on the disk for a block: in the database and its log, and in the key file. */
const DISK_BYTES_A_BLOCK = 400;

/** Blocks a second that are ingested at least, on the machine of docs/performance.md. */
const INGESTION_RATE = 20_000;

export function pools(): Promise<Row[]> {
  return compareStocks(POOLS.small, [POOLS.middle, POOLS.large]);
}

/**
 * The same with the largest stock.
 *
 * @throws Error when there is not enough room for it in the directory for temporary files.
 */
export async function largest(): Promise<Row[]> {
  const needed = LARGEST_POOL * DISK_BYTES_A_BLOCK;
  const { bavail, bsize } = await statfs(tmpdir());
  const gigabytes = (bytes: number) => `${Math.ceil(bytes / 1e9)} GB`;
  if (bavail * bsize < needed) {
    throw new Error(
      `${gigabytes(needed)} are needed in ${tmpdir()}, ${gigabytes(bavail * bsize)} are free; set TMPDIR`,
    );
  }
  const minutes = Math.ceil(LARGEST_POOL / INGESTION_RATE / 60);
  console.error(
    `ingesting ${LARGEST_POOL} blocks takes up to ${minutes} min, ${gigabytes(needed)} of the disk`,
  );
  return await compareStocks(POOLS.small, [LARGEST_POOL]);
}

/** @param stocks in ascending order; the last has the goals. */
async function compareStocks(few: number, stocks: readonly number[]): Promise<Row[]> {
  await using stack = new AsyncDisposableStack();
  const start = async (blocks: number) => {
    const site = stack.use(await Site.start(["sqlite", ":memory:"]));
    await site.fill("local", blocks);
    return site;
  };
  const many = stocks.at(-1)!;
  const empty = await start(0);
  const sites = new Map<number, Site>();
  for (const blocks of [few, ...stocks]) sites.set(blocks, await start(blocks));
  const small = sites.get(few)!;
  const large = sites.get(many)!;

  const starts = new Map<Site, number[]>([[empty, []], [small, []], [large, []]]);
  const memories = new Map<Site, number[]>([[empty, []], [small, []], [large, []]]);
  // More often than there are rounds: a start takes less than a second, and its time varies.
  for (let i = 0; i < 3 * ROUNDS; i++) {
    const turns = [...starts.keys()];
    for (const site of i % 2 === 0 ? turns : turns.toReversed()) {
      starts.get(site)!.push(await site.restart());
      memories.get(site)!.push(await residentMemory(site));
    }
  }

  const targets = [...sites].map(([blocks, site]): Target => ({
    name: String(blocks),
    run: () => site.run({ way: "enc", slave: "local" }, TIMES, blocks),
  }));
  await interleave(targets, 1); // processes that have just been started
  const results = await interleave(targets, QUICK ? 2 * ROUNDS : 3 * ROUNDS);
  const row = compare(results);
  const p99 = (blocks: number) => results.get(String(blocks))!.map((result) => result.p99);
  const against = (blocks: number) => `enc_keys at ${blocks} blocks against ${few}, SQLite file`;
  const goal = <T extends Row["goal"]>(blocks: number, goal: T) => blocks === many ? goal : undefined;
  return [
    ...stocks.map((blocks) =>
      row(against(blocks), "requests/s", String(blocks), String(few), goal(blocks, { atLeast: 0.95 }))
    ),
    ...stocks.map((blocks) =>
      rowOf(`${against(blocks)}, p99`, "ms", p99(blocks), p99(few), goal(blocks, { atMost: 1.2 }))
    ),
    ...([["none", empty], [few, small]] as const).map(([name, site]) =>
      rowOf(
        `start until ready, ${many} stored blocks against ${name}`,
        "s",
        starts.get(large)!,
        starts.get(site)!,
        { atMost: 1.3 },
      )
    ),
    rowOf(
      `resident memory at the start, ${many} blocks on a file against ${few}`,
      "MiB",
      memories.get(large)!,
      memories.get(small)!,
      { atMost: 1.3 },
    ),
    rowOf(
      `resident memory after the load, ${many} blocks on a file against ${few}`,
      "MiB",
      [await residentMemory(large)],
      [await residentMemory(small)],
      { atMost: 1.3 },
    ),
  ];
}

/** MiB of KME 1. */
async function residentMemory(site: Site): Promise<number> {
  return await residentBytes(site.pids[0]!) / 2 ** 20;
}
