import assert from "node:assert/strict";
import { PROJECT_ROOT, runKme } from "../harness/kme_process.ts";
import { startChild } from "../harness/child_process.ts";
import { writeSampleKeys } from "../../src/tools/sample_keys.ts";
import { BLOCK_BYTES } from "../../src/domain/block.ts";
import { makeTempDir } from "../harness/temp_dir.ts";

/** File names in a directory, sorted by their number. */
function filesIn(directory: string): string[] {
  const number = (name: string) => Number(/-(\d+)\.cor$/.exec(name)?.[1]);
  return [...Deno.readDirSync(directory)].map((entry) => entry.name).sort((a, b) => number(a) - number(b));
}

function blocksIn(path: string): string[] {
  const bytes = Deno.readFileSync(path);
  assert.equal(bytes.length % BLOCK_BYTES, 0, "whole blocks");
  return Array.from(
    { length: bytes.length / BLOCK_BYTES },
    (_, i) => bytes.subarray(i * BLOCK_BYTES, (i + 1) * BLOCK_BYTES).toBase64(),
  );
}

async function run(...args: string[]): Promise<{ code: number; output: string }> {
  const { code, stdout, stderr } = await runKme(["keys", ...args]);
  return { code, output: stdout + stderr };
}

Deno.test("both ends get the same blocks, no block twice", async () => {
  await using directory = await makeTempDir();
  const ends = [`${directory.path}/kme-1-2`, `${directory.path}/deep/kme-2-1`];
  // More than is generated at a time.
  const { code, output } = await run(...ends, "--blocks", "5000", "--file-blocks", "2100", "--create");
  assert.equal(code, 0, output);
  const names = filesIn(ends[0]!);
  assert.deepEqual(filesIn(ends[1]!), names);
  assert.ok(names.every((name) => /^not-quantum-.*\.cor$/.test(name)), names.join());
  const blocks = names.map((name) => blocksIn(`${ends[0]}/${name}`));
  assert.deepEqual(names.map((name) => blocksIn(`${ends[1]}/${name}`)), blocks);
  assert.deepEqual(blocks.map((ofFile) => ofFile.length), [2100, 2100, 800]);
  assert.equal(new Set(blocks.flat()).size, 5000);
  assert.ok(blocks.flat().every((block) => !output.includes(block)), "no bits are printed");

  await run(...ends, "--blocks", "3");
  assert.equal(filesIn(ends[0]!).length, 4, "a second run adds to the first");
});

Deno.test("a file gets its name when it is complete", async () => {
  await using directory = await makeTempDir();
  const watcher = Deno.watchFs(directory.path);
  const seen = new Set<string>();
  let complete: string | undefined;
  await writeSampleKeys([directory.path], { blocks: 4000 });
  for await (const { kind, paths } of watcher) {
    for (const path of paths) seen.add(path);
    const cor = paths.find((path) => path.endsWith(".cor"));
    if (cor === undefined) continue;
    // The first event of the final name is its renaming, not its creation.
    assert.equal(kind, Deno.build.os === "linux" ? "rename" : kind);
    complete = cor;
    break;
  }
  assert.equal(blocksIn(complete!).length, 4000);
  assert.ok([...seen].some((path) => !path.endsWith(".cor")), "it was written under another name");
  assert.deepEqual(filesIn(directory.path).length, 1, "the other name is gone");
});

Deno.test("keys are for their owner only", { ignore: Deno.build.os === "windows" }, async () => {
  await using directory = await makeTempDir();
  const { files } = await writeSampleKeys([directory.path], { blocks: 1 });
  assert.equal((await Deno.stat(`${directory.path}/${files[0]}`)).mode! & 0o777, 0o600);
});

Deno.test("with a rate, files come one by one until all are written", async () => {
  await using directory = await makeTempDir();
  const progress: number[] = [];
  const written = await writeSampleKeys([directory.path], {
    blocks: 25,
    rate: 5000,
    fileBlocks: 10,
    onProgress: (blocks) => progress.push(blocks),
  });
  assert.deepEqual(progress, [10, 20, 25]);
  assert.deepEqual(written.files, filesIn(directory.path));
  const { code } = await run(directory.path, "--blocks", "4", "--rate", "1000", "--file-blocks", "2");
  assert.equal(code, 0);
  assert.equal(filesIn(directory.path).length, 5);
});

Deno.test("a writer that runs without limit stops on a signal, and leaves only complete files", async () => {
  await using directory = await makeTempDir();
  const stop = new AbortController();
  const { blocks, files } = await writeSampleKeys([directory.path], {
    blocks: Infinity,
    rate: 1000,
    fileBlocks: 1,
    signal: stop.signal,
    onProgress: (written) => written === 3 && stop.abort(),
  });
  assert.equal(blocks, 3);
  assert.deepEqual(filesIn(directory.path), files);
});

Deno.test(
  "Ctrl-C ends the command after the file that is being written",
  { ignore: Deno.build.os === "windows" },
  async () => {
    await using directory = await makeTempDir();
    const watcher = Deno.watchFs(directory.path);
    const child = startChild(Deno.execPath(), {
      args: [
        "run",
        "-A",
        `${PROJECT_ROOT}src/main.ts`,
        "keys",
        directory.path,
        "--rate",
        "1000",
        "--file-blocks",
        "1",
      ],
      cwd: PROJECT_ROOT,
    });
    for await (const { paths } of watcher) {
      if (paths.some((path) => path.endsWith(".cor"))) break;
    }
    assert.equal((await child.end("SIGINT")).code, 0);
    const files = filesIn(directory.path);
    assert.ok(
      files.every((file) => file.endsWith(".cor") && blocksIn(`${directory.path}/${file}`).length === 1),
    );
    assert.match(
      child.lines.join("\n"),
      new RegExp(`${files.length} blocks in ${files.length} file\\(s\\)`),
    );
  },
);

Deno.test("exit code 2 for a wrong command line, or what is no directory", async () => {
  await using directory = await makeTempDir();
  const keys = `${directory.path}/keys`;
  for (
    const args of [
      [],
      [keys],
      ["--blocks", "1"],
      [keys, "--blocks", "0"],
      [keys, "--blocks", "1e3"],
      [keys, "--blocks", "1", "--rate", "0"],
      [keys, "--blocks", "1", "--rate", "fast"],
      [keys, "--blocks", "1", "--file-blocks", "-1"],
      [keys, "--blocks", "1", "--loud"],
    ]
  ) {
    const { code, output } = await run(...args);
    assert.equal(code, 2, args.join(" "));
    assert.match(output, /^Usage: kme keys DIR/m);
  }
  const missing = await run(keys, `${directory.path}/raw`, "--blocks", "1");
  assert.equal(missing.code, 2);
  assert.match(missing.output, /keys: does not exist; create it, or add --create\n.*raw: does not exist/);
  await assert.rejects(Deno.stat(keys), Deno.errors.NotFound);
  assert.equal((await run("--help")).code, 0);
  await Deno.writeTextFile(keys, "a file where the directory should be");
  for (
    const [path, message] of [
      [keys, "is not a directory"],
      [`${keys}/kme-1-2`, "a part of the path is not a directory"],
    ] as const
  ) {
    for (const create of [[], ["--create"]]) {
      const { code, output } = await run(path, directory.path, "--blocks", "1", ...create);
      assert.deepEqual([code, output], [2, `${path}: ${message}\n`]);
    }
  }
  assert.deepEqual(filesIn(directory.path), ["keys"]);
});
