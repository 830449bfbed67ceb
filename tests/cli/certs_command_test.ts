import "reflect-metadata";
import * as x509 from "@peculiar/x509";
import assert from "node:assert/strict";
import JSON5 from "json5";
import { runKme } from "../harness/kme_process.ts";
import { findProgram, runChild } from "../harness/child_process.ts";
import { makeTempDir } from "../harness/temp_dir.ts";
import { differences, filesOf, twoKmes } from "../tools/certs/network_files.ts";

const run = async (...args: string[]) => {
  const { code, stdout, stderr } = await runKme(["certs", ...args]);
  return { code, stdout: stdout.trimEnd(), stderr: stderr.trimEnd() };
};

Deno.test("the command prints names and serials as entries of a configuration", async () => {
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
  assert.deepEqual(printed.saes[1], { id: 2, kme_id: 1, certificates: [{ subject_cn: "SAE 2" }] });
  assert.match(first!, /^ {2}\{ id: 2, .* \/\/ serial \[143, 1\]$/m);
  assert.match(stderr, /44 files written$/);

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

Deno.test("mistakes of a network file are reported without messages of a library", async () => {
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

const openssl = findProgram("openssl");

Deno.test("revoking makes a CRL that openssl verifies, and --crls renews all CRLs", async (t) => {
  await using directory = await makeTempDir();
  const file = `${directory.path}/network.json5`;
  const out = `${directory.path}/out`;
  const network = twoKmes();
  // A serial whose first bit is set has a zero byte before it in DER.
  network.kmes[0]!.saes![1]!.serial = "8f01";
  await Deno.writeTextFile(file, JSON5.stringify(network));
  const crlOf = async (ca: string) => new x509.X509Crl(await Deno.readTextFile(`${out}/${ca}.crl`));
  const serials = async (ca: string) => (await crlOf(ca)).entries.map(({ serialNumber }) => serialNumber);
  const serialOf = async (name: string) =>
    new x509.X509Certificate(await Deno.readTextFile(`${out}/${name}.crt`)).serialNumber;
  const made = async (...args: string[]) => {
    const result = await run(file, "--out", out, ...args);
    assert.equal(result.code, 0, result.stderr);
    return result;
  };
  await made();
  const before = await filesOf(out);
  const [one, two] = [
    await serialOf("kme-1-local-zone/client_1"),
    await serialOf("kme-1-local-zone/client_2"),
  ];
  const ca = "kme-1-local-zone/ca";

  await t.step("one certificate after the other", async () => {
    const { stdout } = await made("--revoke", "client_1");
    assert.equal(stdout.replaceAll("\\", "/"), `${out}/${ca}.crl`);
    assert.deepEqual(differences(before, await filesOf(out)), [`${ca}.crl`]);
    assert.deepEqual(await serials(ca), [one]);
    await made("--revoke", "client_2");
    await made("--revoke", "client_1");
    assert.deepEqual(await serials(ca), [one, two]);
    const days = ((await crlOf(ca)).nextUpdate!.getTime() - Date.now()) / 86_400_000;
    assert.ok(days > 364.9 && days <= 365, `${days}`);
  });

  await t.step({
    name: "openssl refuses what is revoked, and nothing else",
    ignore: openssl === undefined,
    fn: async () => {
      const verify = async (name: string) => {
        const { stdout, stderr } = await runChild(openssl!, {
          args: ["verify", "-crl_check", "-CAfile", `${ca}.crt`, "-CRLfile", `${ca}.crl`, `${name}.crt`],
          cwd: out,
        });
        return stdout + stderr;
      };
      for (const client of ["client_1", "client_2"]) {
        assert.match(await verify(`kme-1-local-zone/${client}`), /certificate revoked/);
      }
      assert.match(await verify("kme-1-local-zone/kme_server"), /: OK/);
    },
  });

  await t.step("a revoked certificate is a warning until it is renewed", async () => {
    assert.match(
      (await made()).stderr,
      /warning: \S+client_1 is revoked \(--renew kme-1-local-zone\/client_1\)/,
    );
    await made("--renew", "client_1");
    assert.doesNotMatch((await made()).stderr, /client_1 is revoked/);
    assert.deepEqual(await serials(ca), [one, two], "the old certificate stays revoked");
  });

  await t.step("all CRLs are renewed", async () => {
    const { stdout } = await made("--crls");
    assert.equal(stdout.split("\n").length, 4);
    assert.deepEqual(await serials(ca), [one, two]);
    assert.deepEqual(await serials("inter_kmes/ca_kme2"), []);
    const number = (await crlOf(ca)).getExtension("2.5.29.20")!.value;
    assert.deepEqual([...new Uint8Array(number)], [2, 1, 4], "DER of the number of the fourth CRL");
  });

  await t.step("a certificate that cannot be revoked is refused", async () => {
    const files = await filesOf(out);
    for (
      const [args, code, message] of [
        [["--revoke", "inter_kmes/ca_kme1"], 2, /is a CA, which cannot revoke itself/],
        [["--revoke", "client_9"], 2, /there is no client_9/],
        [["--revoke", "kme_server"], 2, /could be any of/],
        [["--revoke", "client_1", "--crls"], 2, /--revoke and --crls cannot be combined/],
      ] as const
    ) {
      const result = await run(file, "--out", out, ...args);
      assert.equal(result.code, code);
      assert.match(result.stderr, message);
    }
    await Deno.copyFile(`${out}/inter_kmes/ca_kme2.crl`, `${out}/${ca}.crl`);
    const other = await run(file, "--out", out, "--revoke", "client_1");
    assert.equal(other.code, 1);
    assert.match(other.stderr, /ca\.crl is not a CRL of \S+ca\.crt/);
    assert.deepEqual(differences(files, await filesOf(out)), [`${ca}.crl`]);
  });
});
