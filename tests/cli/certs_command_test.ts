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

Deno.test("mistakes of a network file are told in words of this program", async () => {
  await using directory = await makeTempDir();
  const file = `${directory.path}/network.json5`;
  const kme = twoKmes().kmes[0]!;
  const wrong: [unknown, RegExp][] = [
    [null, /network\.json5: null is wrong here; write an object with kmes$/m],
    [{}, /: kmes: is missing; write an array of KMEs$/m],
    [{ kmes: [] }, /: kmes: must name at least one KME$/m],
    [{ kmes: 1, link: [] }, /: kmes: a number is wrong here/m],
    [{ kmes: [kme], link: [] }, /: unknown member link; did you mean links\?$/m],
    [{ kmes: [{}] }, /: kmes\[0\]\.saes_interface: is missing; write an object with hosts and port$/m],
    [{ kmes: [{ ...kme, saes: [{}] }] }, /: kmes\[0\]\.saes\[0\]\.id: is missing; write an id/m],
    [{ kmes: [{ ...kme, saes: [{ id: 1, serial: 7 }] }] }, /serial: a number is wrong here/m],
    [
      { kmes: [{ ...kme, kmes_interface: { hosts: "a", port: 0 } }] },
      /port: 0 is out of bounds; write an integer/m,
    ],
    [{ kmes: [kme], key_type: "RSA" }, /: key_type: a string is wrong here; write "P-256" or "P-384"$/m],
    [{ kmes: [kme], valid_from: 1, organization: "", links: [[1], 2] }, /: links\[0\]: /m],
    [{ kmes: [kme], ca_days: 0.5, leaf_days: "1", pfx_password: {} }, /: ca_days: /m],
  ];
  for (const [value, message] of wrong) {
    await Deno.writeTextFile(file, JSON5.stringify(value));
    const { code, stderr } = await run(file, "--out", `${directory.path}/out`);
    assert.equal(code, 2, stderr);
    assert.match(stderr, message);
    assert.doesNotMatch(stderr, /expected|received|invalid|unrecognized|too small|too big/i);
  }
});
