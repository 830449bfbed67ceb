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
  return rowOf("ingestion, SQLite file, against a bare insert of the same rows", "blocks/s", ours, bare, {
    atLeast: 0.5,
  });
}

/** From the first file's appearance until all blocks are in stock and all files deleted. */
async function manySmallFiles(): Promise<Row> {
  const ours: number[] = [];
  const bare: number[] = [];
  await using directory = await makeTempDir();
  await using site = await Site.make(["sqlite", ":memory:"]);
  for (let i = 0; i < ROUNDS; i++) {
    await site.renew();
    await site.fill("local", 1); // what is done once is not measured
    const appear = await site.prepareSmall(SMALL_FILES, SMALL_FILE_BLOCKS);
    const begin = performance.now();
    await appear();
    ours.push(SMALL_FILES * 1000 / (performance.now() - begin));
    bare.push(await bareFiles(directory.path));
  }
  return rowOf(
    "ingestion of files of two blocks, SQLite file, against a bare look at them",
    "files/s",
    ours,
    bare,
  );
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
