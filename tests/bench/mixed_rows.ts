/** A mixed load over two KMEs on files for minutes, and what memory they need meanwhile. */
import { residentBytes } from "../harness/process_files.ts";
import { countsOf } from "./comparison.ts";
import type { LoadResult } from "./load_job.ts";
import { load } from "./load_process.ts";
import { MIXED_MINUTES, POOL } from "./options.ts";
import { type Row, rowOf } from "./row.ts";
import { Site } from "./site.ts";
import { round } from "./stats.ts";

/** Of ten requests. */
const REQUESTS = [
  { way: "enc+dec", slave: "remote", share: 8 },
  { way: "status", slave: "remote", share: 1 },
  { way: "status", slave: "remote", share: 1, handshakes: true },
] as const;

/** Milliseconds between two looks at the stock. */
const SUPPLY_MS = 500;

export async function mixed(): Promise<Row[]> {
  await using site = await Site.make(["sqlite", "sqlite"]);
  await site.renewWith("remote", POOL);
  const memories: number[][] = site.pids.map(() => []);
  const lookAtMemory = async () => {
    for (const [i, pid] of site.pids.entries()) memories[i]!.push(await residentBytes(pid) / 2 ** 20);
  };
  await lookAtMemory();
  const minutes: LoadResult[] = [];
  {
    await using _supply = supply(site);
    for (let minute = 1; minute <= MIXED_MINUTES; minute++) {
      const result = await load(site.job(REQUESTS, { seconds: 60, warmup: 0 }));
      minutes.push(result);
      await lookAtMemory();
      const facts = [
        `${round(result.ok / result.seconds)}/s`,
        ...REQUESTS.map(({ way, ...rest }, i) => {
          const { count, p50, p99 } = result.kinds[i]!;
          const name = "handshakes" in rest ? `${way} on a new connection` : way;
          return `${name} p50 ${round(p50)} ms, p99 ${round(p99)} ms of ${count}`;
        }),
        `${memories.map((each) => round(each.at(-1)!)).join(" and ")} MiB`,
      ];
      if (result.failed > 0) facts.push(`${result.failed} failed: ${result.firstFailure}`);
      console.error(`minute ${minute}/${MIXED_MINUTES} of the mixed load: ${facts.join(", ")}`);
    }
  }
  const difference = await site.settle("remote", minutes.reduce((sum, { keys }) => sum + keys, 0));
  const what = `mixed load for ${MIXED_MINUTES} min over two KMEs, SQLite files`;
  const lastAgainstFirst = (name: string, unit: string, course: readonly number[]): Row => ({
    ...rowOf(`${what}: ${name}`, unit, [course.at(-1)!], [course[0]!]),
    course,
  });
  const counts = countsOf(minutes);
  const rates = minutes.map(({ ok, seconds }) => ok / seconds);
  return [
    {
      ...lastAgainstFirst("the last minute against the first", "requests/s", rates),
      ...counts,
      failed: counts.failed + Math.abs(difference),
      firstFailure: counts.firstFailure ??
        (difference === 0 ? undefined : `the stock is ${difference} blocks from what the keys leave`),
      droppedLines: await site.droppedLines(),
    },
    lastAgainstFirst(
      "p99 of pairs, the last minute against the first",
      "ms",
      minutes.map(({ kinds }) => kinds[0]!.p99),
    ),
    ...memories.map((each, i) =>
      lastAgainstFirst(`resident memory of KME ${i + 1}, at the end against before`, "MiB", each)
    ),
  ];
}

/** Adds a key file whenever half of the stock is used and the one before is ingested, until it is disposed of. */
function supply(site: Site): AsyncDisposable {
  let isOver = false;
  const running = (async () => {
    let isComing = false;
    while (!isOver) {
      if (await site.stock("remote") >= POOL / 2) isComing = false;
      else if (!isComing) {
        await site.addFile("remote", POOL);
        isComing = true;
      }
      await new Promise((resolve) => setTimeout(resolve, SUPPLY_MS));
    }
  })();
  running.catch(() => {}); // told when it is disposed of
  return {
    [Symbol.asyncDispose]() {
      isOver = true;
      return running;
    },
  };
}
