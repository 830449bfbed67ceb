import assert from "node:assert/strict";
import JSON5 from "json5";
import { runKme } from "../harness/kme_process.ts";
import { makeTempDir } from "../harness/temp_dir.ts";
import { differences, filesOf, twoKmes } from "../tools/certs/network_files.ts";

const run = async (...args: string[]) => {
  const { code, stdout, stderr } = await runKme(["certs", ...args]);
  return { code, stdout: stdout.trimEnd(), stderr: stderr.trimEnd() };
};

Deno.test("the command prints serials as entries of a configuration", async () => {
  await using directory = await makeTempDir();
  const file = `${directory.path}/network.json5`;
  const out = `${directory.path}/out`;
  const network = twoKmes();
  network.kmes[0]!.saes![1]!.serial = "00 8f 01";
  await Deno.writeTextFile(file, JSON5.stringify(network));
  const { code, stdout, stderr } = await run(file, "--out", out, "--configs");
  assert.equal(code, 0, stderr);
  const [first] = stdout.split("\n\n");
  const printed = JSON5.parse(`{${first}\n}`);
  const config = JSON5.parse(await Deno.readTextFile(`${out}/config_kme1.json5`));
  assert.deepEqual(printed.saes, config.saes);
  assert.deepEqual(printed.saes[1], { id: 2, kme_id: 1, https_client_certificate_serial: [0x8f, 0x01] });
  assert.match(stderr, /38 files written$/);

  const before = await filesOf(out);
  const again = await run(file, "--out", out, "--configs");
  assert.deepEqual([again.code, again.stdout], [0, stdout]);
  assert.match(again.stderr, /nothing was missing$/);
  assert.deepEqual(differences(before, await filesOf(out)), []);

  const renewed = await run(file, "--out", out, "--renew", "kme1-to-kme2");
  assert.equal(renewed.code, 0);
  assert.notEqual(renewed.stdout, stdout);
  assert.equal(differences(before, await filesOf(out)).length, 4);

  await Deno.writeTextFile(file, JSON5.stringify({ ...network, organization: "Another" }));
  const other = await run(file, "--out", out, "--configs");
  assert.equal(other.code, 2);
  assert.match(other.stderr, /^\S+ca\.crt is of another network: .*--out/);
  assert.equal(other.stderr.split("\n").length, 1);
});

Deno.test("exit code 2 for a bad file or command line, 1 for what cannot be written", async () => {
  await using directory = await makeTempDir();
  const file = `${directory.path}/network.json5`;
  const out = `${directory.path}/out`;
  const write = (value: unknown) => Deno.writeTextFile(file, JSON5.stringify(value));

  const missing = await run(file, "--out", out);
  assert.equal(missing.code, 2);
  assert.ok(missing.stderr.startsWith(`${file}: `));
  await Deno.writeTextFile(file, "{ kmes: [");
  const broken = await run(file, "--out", out);
  assert.equal(broken.code, 2);
  assert.match(broken.stderr, /: not JSON5: .* at 1:10$/);
  await write({ ...twoKmes(), key_type: 1, leaf_days: "many" });
  const wrong = await run(file, "--out", out);
  assert.equal(wrong.code, 2);
  assert.equal(wrong.stderr.split("\n").length, 2);
  assert.ok(wrong.stderr.split("\n").every((line) => line.startsWith(`${file}: `)));

  await write(twoKmes());
  for (
    const args of [[], [file], [file, "other", "--out", out], [file, "--out", out, "--force"], [
      file,
      "--out",
      out,
      "--configs",
      "--renew",
      "client_1",
    ]]
  ) {
    const { code, stderr } = await run(...args);
    assert.equal(code, 2, args.join(" "));
    assert.match(stderr, /^Usage: kme certs NETWORK --out DIR/m);
  }
  assert.equal((await run(file, "--out", out, "--renew", "client_1")).code, 2);
  assert.equal((await run("--help")).code, 0);
  await assert.rejects(Deno.stat(out), Deno.errors.NotFound, "nothing was written so far");

  await Deno.writeTextFile(out, "a file where the directory should be");
  const unwritable = await run(file, "--out", out);
  assert.equal(unwritable.code, 1);
  assert.ok(unwritable.stderr.includes(out), unwritable.stderr);
});
