/** How long others wait at a KME that gets the largest messages another KME may send, against a fixed time. */
import { KeySize, MAX_REQUEST_BLOCKS } from "../../src/domain/key.ts";
import { countsOf } from "./comparison.ts";
import { load } from "./load_process.ts";
import { ROUNDS } from "./options.ts";
import { type Row, rowOf } from "./row.ts";
import { type Request, Site, type Times } from "./site.ts";
import { round } from "./stats.ts";

/** Milliseconds. */
const LIMIT = 50;

const OTHERS: Request = { way: "enc", slave: "local", pace: 100, connections: 4 };

/** One after the other, from an SAE of the other KME. */
const LARGEST: Request = { way: "enc", slave: "remote", pace: 4, connections: 1 };

/** As many keys as can be, and keys as long as can be. */
const SHAPES: readonly Pick<Request, "keys" | "size">[] = [
  { keys: MAX_REQUEST_BLOCKS },
  { keys: MAX_REQUEST_BLOCKS * 256 / KeySize.max, size: KeySize.max },
];

const TIMES: Times = { seconds: 5, warmup: 1 };

/** Requests before, so that the program is compiled. */
const USE: Times = { seconds: 5, warmup: 5 };

const STOCK = 150_000;

export async function stall(): Promise<Row[]> {
  const rows: Row[] = [];
  for (const database of [":memory:", "sqlite"]) {
    const edit = ({ this_kme }: { this_kme: { max_key_per_request?: number } }) => {
      this_kme.max_key_per_request = MAX_REQUEST_BLOCKS;
    };
    await using site = await Site.make([database, database], { edit });
    const others = () => load(site.job([OTHERS], TIMES));
    const beside = async (shape: typeof SHAPES[number]) => {
      const [result, largest] = await Promise.all([
        others(),
        load(site.job([{ ...LARGEST, ...shape }], TIMES, "3")),
      ]);
      if (largest.failed > 0) throw new Error(`a largest request failed: ${largest.firstFailure}`);
      return result;
    };
    const runs = new Map<string, Awaited<ReturnType<typeof others>>[]>();
    for (let turn = 1; turn <= ROUNDS; turn++) {
      await site.renewWith("remote", STOCK);
      await site.fill("local", STOCK);
      await load(site.job([{ ...OTHERS, pace: undefined }], USE));
      const targets = new Map([
        ["alone", others],
        ...SHAPES.map((shape) => {
          const { keys, size = 256 } = shape;
          return [`beside requests for ${keys} keys of ${size} bits`, () => beside(shape)] as const;
        }),
      ]);
      for (const [name, run] of targets) {
        const result = await run();
        runs.set(name, [...runs.get(name) ?? [], result]);
        console.error(
          `round ${turn}/${ROUNDS} ${database}, others ${name}: p50 ${round(result.p50)} ms, p99 ${
            round(result.p99)
          } ms, longest ${round(result.max)} ms of ${result.ok}`,
        );
      }
    }
    for (const [name, results] of runs) {
      const what = `enc_keys at the receiving KME, ${
        database === "sqlite" ? "SQLite file" : database
      }, ${name}`;
      rows.push({
        ...rowOf(
          `${what}: longest wait against ${LIMIT} ms`,
          "ms",
          results.map(({ max }) => max),
          results.map(() => LIMIT),
          name === "alone" ? undefined : { atMost: 1 },
        ),
        ...countsOf(results),
      });
    }
  }
  return rows;
}
