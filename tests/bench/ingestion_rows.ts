/** Ingestion of a key file that is complete when it appears, against a bare insert of the same rows. */
import { hash, randomBytes } from "node:crypto";
import { makeTempDir } from "../harness/temp_dir.ts";
import { print } from "./load_process.ts";
import { POOLS, QUICK, ROUNDS } from "./options.ts";
import { type Row, rowOf } from "./row.ts";
import { Site } from "./site.ts";

/** Small files, as devices write them that give a file a second or less. */
const SMALL_FILES = QUICK ? 2000 : 5000;
const SMALL_FILE_BLOCKS = 2;

export async function ingestion(): Promise<Row[]> {
  return [await oneLargeFile(), await manySmallFiles()];
}

async function oneLargeFile(): Promise<Row> {
  const blocks = POOLS.large / 2;
  await using directory = await makeTempDir();
  const [ours, bare] = await alternately(blocks, (site) => site.prepare("local", blocks), async (round) => {
    const path = `${directory.path}/${round}.db`;
    const seconds = Number(await print("ingest_baseline.ts", [path, String(blocks)]));
    await Deno.remove(path);
    return blocks / seconds;
  });
  return rowOf("ingestion, SQLite file, against a bare insert of the same rows", "blocks/s", ours, bare, {
    atLeast: 0.6,
  });
}

/** From the first file's appearance until all blocks are in stock and all files deleted. */
async function manySmallFiles(): Promise<Row> {
  await using directory = await makeTempDir();
  const [ours, bare] = await alternately(
    SMALL_FILES,
    (site) => site.prepareSmall(SMALL_FILES, SMALL_FILE_BLOCKS),
    () => bareFiles(directory.path),
  );
  return rowOf(
    "ingestion of files of two blocks, SQLite file, against a bare look at them",
    "files/s",
    ours,
    bare,
  );
}

/**
 * Measures ingestion and what it is compared with, in turn.
 *
 * @param count what is ingested in a round.
 * @param prepare returns what makes the files appear, and waits until they are ingested.
 * @param bare the rate of the comparison.
 * @returns the rates of both, per second.
 */
async function alternately(
  count: number,
  prepare: (site: Site) => Promise<() => Promise<void>>,
  bare: (round: number) => Promise<number>,
): Promise<[ours: number[], bare: number[]]> {
  const rates: [number[], number[]] = [[], []];
  await using site = await Site.make(["sqlite", ":memory:"]);
  for (let round = 0; round < ROUNDS; round++) {
    await site.renew();
    await site.fill("local", 1); // what is done once is not measured
    const appear = await prepare(site);
    const begin = performance.now();
    await appear();
    rates[0].push(count * 1000 / (performance.now() - begin));
    rates[1].push(await bare(round));
  }
  return rates;
}

/** Files a second that one caller renames, reads, hashes and deletes, one after the other, and stores nothing of. */
async function bareFiles(directory: string): Promise<number> {
  const names = Array.from({ length: SMALL_FILES }, (_, i) => `${directory}/${i}`);
  for (const name of names) await Deno.writeFile(name, randomBytes(32 * SMALL_FILE_BLOCKS));
  const begin = performance.now();
  for (const name of names) await Deno.rename(name, `${name}.cor`);
  for (const name of names) {
    hash("sha256", await Deno.readFile(`${name}.cor`));
    await Deno.remove(`${name}.cor`);
  }
  return SMALL_FILES * 1000 / (performance.now() - begin);
}
