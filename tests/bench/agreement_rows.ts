/** What the agreement of stocks costs, against KMEs that do not compare their stocks. */
import { fileURLToPath } from "node:url";
import { compare, interleave, type Target } from "./comparison.ts";
import { POOL } from "./options.ts";
import type { Row } from "./row.ts";
import { type Request, Site, type Times } from "./site.ts";

const REQUEST: Request = { way: "enc", slave: "remote" };

/** Longer than the time between two comparisons. */
const TIMES: Times = { seconds: 16, warmup: 3 };

const WITHOUT = { script: fileURLToPath(new URL("start_without_agreement.ts", import.meta.url)) };

export async function agreement(): Promise<Row[]> {
  await using agreeing = await Site.make(["sqlite", "sqlite"]);
  await using alone = await Site.make(["sqlite", "sqlite"], { program: WITHOUT });
  const targets = [["with", agreeing], ["without", alone]].map(([name, site]): Target => ({
    name: `enc_keys over two KMEs, ${name} the agreement of stocks`,
    run: () => (site as Site).runAfresh(REQUEST, TIMES, POOL),
  }));
  const row = compare(await interleave(targets));
  return [
    row(
      "`enc_keys` over two KMEs, SQLite files, with the agreement of stocks against without",
      "requests/s",
      targets[0]!.name,
      targets[1]!.name,
      { atLeast: 0.98 },
    ),
  ];
}
