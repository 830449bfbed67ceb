/** What a request takes while the KMEs have little to do, against fixed times. */
import { countsOf, interleave, type Target } from "./comparison.ts";
import { QUICK } from "./options.ts";
import { type Row, rowOf } from "./row.ts";
import { type Request, Site, type Times } from "./site.ts";

const REQUEST: Request = { way: "enc", slave: "remote", pace: 50, connections: 8 };

const TIMES: Times = QUICK ? { seconds: 5, warmup: 2 } : { seconds: 20, warmup: 5 };

/** Keys that KMEs in use have delivered before, as fast as they could: after a start the runtime compiles the program as it runs. */
const USED_KEYS = 20_000;

const USE: Request = { way: "enc", slave: "remote" };

const STOCK = 10_000;

/** Milliseconds. */
const LIMITS = { p50: 3, p99: 8 } as const;

export async function latency(): Promise<Row[]> {
  await using files = await Site.make(["sqlite", "sqlite"]);
  await using memory = await Site.make([":memory:", ":memory:"]);
  const targets = [{ name: "SQLite files", site: files }, { name: "both :memory:", site: memory }].flatMap((
    { name, site },
  ): Target[] => [
    { name: `${name}, just started`, run: () => site.runAfresh(REQUEST, TIMES, STOCK) },
    {
      name: `${name}, in use`,
      run: () => {
        const use = { seconds: 120, warmup: 120, requests: USED_KEYS };
        return site.runAfter(USE, use, REQUEST, TIMES, USED_KEYS + STOCK);
      },
    },
  ]);
  const results = await interleave(targets);
  return targets.flatMap(({ name }) => {
    const runs = results.get(name)!;
    return (["p50", "p99"] as const).map((part): Row => ({
      ...rowOf(
        `enc_keys over two KMEs at ${REQUEST.pace} requests/s, ${name}, ${part} against ${LIMITS[part]} ms`,
        "ms",
        runs.map((run) => run[part]),
        runs.map(() => LIMITS[part]),
        name.startsWith("SQLite") ? { atMost: 1 } : undefined,
      ),
      ...countsOf(runs),
    }));
  });
}
