import assert from "node:assert/strict";
import { eventually } from "../harness/eventually.ts";
import { freePorts } from "../harness/free_port.ts";
import { type KmeProgram, runKme, startKme } from "../harness/kme_process.ts";
import { assertSameKeys, keyIdsOf, SaeClient } from "../harness/sae_client.ts";
import { makeTempDir } from "../harness/temp_dir.ts";

// A compiled program in place of the sources: KME_TEST_BINARY=/path/of/kme
const binary = Deno.env.get("KME_TEST_BINARY");
const program: KmeProgram | undefined = binary ? { executable: binary } : undefined;

Deno.test("from an empty directory to a key, with only the program", async (t) => {
  await using temp = await makeTempDir("kme-first-");
  const cwd = temp.path;
  const run = async (...args: string[]) => {
    const output = await runKme(args, { cwd, program });
    assert.equal(output.code, 0, `kme ${args.join(" ")}\n${output.stdout}${output.stderr}`);
    return output.stdout;
  };
  const ports = freePorts(6);
  const kme = (id: number, saes: number[]) => {
    const [saesPort, kmesPort, consolePort] = ports.splice(0, 3);
    return {
      saesPort: saesPort!,
      text: `{ id: ${id}, saes_interface: { hosts: ["127.0.0.1"], port: ${saesPort} },
        kmes_interface: { hosts: ["127.0.0.1"], port: ${kmesPort} },
        debugging_http_interface: "127.0.0.1:${consolePort}",
        saes: [${saes.map((sae) => `{ id: ${sae} }`).join(", ")}] }`,
    };
  };
  const [one, two] = [kme(1, [1, 2]), kme(2, [3])];
  const network = `{ organization: "TEST ONLY", kmes: [${one.text}, ${two.text}] }`;
  const configs = ["config_kme1.json5", "config_kme2.json5"];
  const sae = (id: number, zone: number, port: number) => {
    const read = (name: string) => Deno.readTextFileSync(`${cwd}/kme-${zone}-local-zone/${name}`);
    return new SaeClient({
      port,
      ca: read("ca.crt"),
      cert: read(`client_${id}.crt`),
      key: read(`client_${id}.key`),
    });
  };

  await t.step("certificates and configurations", async () => {
    await Deno.writeTextFile(`${cwd}/network.json5`, network);
    await run("certs", "network.json5", "--out", ".", "--configs");
  });

  await t.step("check of both configurations", async () => {
    for (const config of configs) {
      const table = await run("check", config);
      assert.match(table, /^ok .* configuration /m);
      assert.match(table, /\b0 failed$/m);
      assert.ok(!table.includes("\x1b"), "colour outside of a terminal");
    }
  });

  await t.step("status and check before the KMEs run", async () => {
    const status = await runKme(["status", configs[0]!], { cwd, program });
    assert.equal(status.code, 1);
    assert.match(status.stderr, /no KME answers at .* \(connection refused\)/);
    const check = await runKme(["check", configs[0]!, "--peers"], { cwd, program });
    assert.equal(check.code, 1);
    assert.match(check.stdout, /^fail .* KME 2 .*connection refused/m);
  });

  await run("keys", "raw_keys/kme-1-2", "raw_keys/kme-2-1", "--blocks", "50");
  await using first = await startKme(configs[0]!, { cwd, program });
  await using second = await startKme(configs[1]!, { cwd, program });

  await t.step("check of a running KME and its peer", async () => {
    const json = JSON.parse(await run("check", configs[0]!, "--peers", "--json"));
    assert.deepEqual([json.exit_code, json.fail], [0, 0]);
    const details = json.checks.map((check: { detail: string }) => check.detail).join("\n");
    for (
      const detail of [
        /kme1\.db is in use by a running KME/,
        /is in use by a running KME with this certificate/,
        /is in use by the running KME 1/,
        /knows this KME as KME 1/,
        /both have the same 3/,
      ]
    ) assert.match(details, detail);
  });

  await t.step("a key from SAE 1 to SAE 3", async () => {
    using alice = sae(1, 1, one.saesPort);
    using bob = sae(3, 2, two.saesPort);
    await eventually(async () =>
      (await alice.status(3)).json.stored_key_count === 50 &&
      (await bob.status(1)).json.stored_key_count === 50
    );
    const sent = await alice.encKeys(3, { number: 2 });
    assertSameKeys(await bob.decKeys(1, keyIdsOf(sent)), sent);
  });

  await t.step("status of running KMEs", async () => {
    // What a KME tells may be half a second old.
    await eventually(async () => /^KME 2 +48 /m.test(await run("status", configs[0]!)), {
      what: "the new stock",
    });
    await eventually(
      async () => {
        const { links, keysWaiting } = JSON.parse(await run("status", configs[1]!, "--json"));
        return links[1].free === 48 && keysWaiting === 0;
      },
      { what: "the key that was read" },
    );
    const table = await run("status", configs[0]!);
    assert.match(table, /^KME 1 \(KME 1\), version /m);
    assert.match(table, /^ready$/m);
    assert.match(table, /^KME 2 +48 +1000000 +0 +- +\S+ not-quantum/m);
    assert.match(table, /^KME 2 +up /m);
    const json = JSON.parse(await run("status", configs[1]!, "--json"));
    assert.equal(json.kme, "2");
    assert.equal(await run("health", configs[1]!), "ready\n");
  });

  assert.equal(await first.stop(), 0);
  assert.equal(await second.stop(), 0);
  await t.step("status after they have stopped", async () => {
    assert.equal((await runKme(["status", configs[0]!], { cwd, program })).code, 1);
  });
});
