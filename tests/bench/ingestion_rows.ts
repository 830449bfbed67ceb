/** Ingestion of a key file that is complete when it appears, against a bare insert of the same rows. */
import { makeTempDir } from "../harness/temp_dir.ts";
import { print } from "./load_process.ts";
import { POOLS, ROUNDS } from "./options.ts";
import { type Row, rowOf } from "./row.ts";
import { Site } from "./site.ts";

export async function ingestion(): Promise<Row[]> {
  const blocks = POOLS.large / 2;
  const ours: number[] = [];
  const bare: number[] = [];
  await using directory = await makeTempDir();
  await using site = await Site.make(["sqlite", ":memory:"]);
  for (let i = 0; i < ROUNDS; i++) {
    await site.renew();
    await site.fill("local", 1); // what is done once is not measured
    const appear = await site.prepare("local", blocks);
    const begin = performance.now();
    await appear();
    ours.push(blocks * 1000 / (performance.now() - begin));
    const path = `${directory.path}/${i}.db`;
    bare.push(blocks / Number(await print("ingest_baseline.ts", [path, String(blocks)])));
    await Deno.remove(path);
  }
  return [
    rowOf("ingestion, SQLite file, against a bare insert of the same rows", "blocks/s", ours, bare, {
      atLeast: 0.5,
    }),
  ];
}
