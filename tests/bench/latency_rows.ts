/** What a request takes while the KMEs have little to do, against fixed times. */
import { countsOf, interleave, type Target } from "./comparison.ts";
import { QUICK } from "./options.ts";
import { type Row, rowOf } from "./row.ts";
import { type Request, Site, type Times } from "./site.ts";

const REQUEST: Request = { way: "enc", slave: "remote", pace: 50, connections: 8 };

const TIMES: Times = QUICK ? { seconds: 5, warmup: 2 } : { seconds: 20, warmup: 5 };

const STOCK = 10_000;

/** Milliseconds. */
const LIMITS = { p50: 3, p99: 8 } as const;

export async function latency(): Promise<Row[]> {
  await using files = await Site.make(["sqlite", "sqlite"]);
  await using memory = await Site.make([":memory:", ":memory:"]);
  const target = (name: string, site: Site): Target => ({
    name,
    run: () => site.runAfresh(REQUEST, TIMES, STOCK),
  });
  const results = await interleave([target("SQLite files", files), target("both :memory:", memory)]);
  const rowsOf = (name: string, goal: Row["goal"]) => {
    const runs = results.get(name)!;
    return (["p50", "p99"] as const).map((part): Row => ({
      ...rowOf(
        `enc_keys over two KMEs at ${REQUEST.pace} requests/s, ${name}, ${part} against ${LIMITS[part]} ms`,
        "ms",
        runs.map((run) => run[part]),
        runs.map(() => LIMITS[part]),
        goal,
      ),
      ...countsOf(runs),
    }));
  };
  return [...rowsOf("SQLite files", { atMost: 1 }), ...rowsOf("both :memory:", undefined)];
}
