import assert from "node:assert/strict";
import { relative } from "node:path";
import { formatMistake, loadConfig } from "../../../src/config/load.ts";
import { makeNetwork } from "../../../src/tools/certs/make_network.ts";
import { makeTempDir } from "../../harness/temp_dir.ts";
import { differences, filesOf, readJson5, twoKmes } from "./network_files.ts";

Deno.test("configurations hold the paths, names and ids of the network", async () => {
  await using out = await makeTempDir();
  // Paths are as the directory was given.
  const given = relative(Deno.cwd(), out.path);
  const network = twoKmes();
  network.kmes[1]!.id = "Bob's";
  network.kmes[1]!.debugging_http_interface = "127.0.0.1:18081";
  network.kmes[1]!.skip_port = 14002;
  network.kmes[1]!.kmes_interface = { hosts: ["::1", "localhost"], port: 14001, listen: "::1" };
  const { kmes } = await makeNetwork(network, given, { configs: true });
  const [alice, bob] = [kmes.get("1")!, kmes.get("Bob's")!];
  const config = await readJson5(bob.config!);
  assert.deepEqual(config, {
    this_kme: {
      id: "Bob's",
      nickname: "Bob",
      db_uri: `sqlite://${given}/kmeBob%27s.db`,
      store_encryption: { key_file: `${given}/store_kmeBob%27s.key` },
      delete_key_file_after_read: true,
      key_directory_to_watch: `${given}/raw_keys/kme-Bob%27s-Bob%27s`,
      saes_https_interface: {
        listen_address: "127.0.0.1:14000",
        ca_client_cert_path: bob.saesCa.crt,
        client_crl_path: bob.saesCa.crl,
        server_cert_path: bob.saesServer.crt,
        server_key_path: bob.saesServer.key,
      },
      kmes_https_interface: {
        listen_address: "[::1]:14001",
        ca_client_cert_path: bob.kmesCa.crt,
        client_crl_path: bob.kmesCa.crl,
        server_cert_path: bob.kmesServer.crt,
        server_key_path: bob.kmesServer.key,
      },
      skip_https_interface: {
        listen_address: "127.0.0.1:14002",
        ca_client_cert_path: bob.saesCa.crt,
        client_crl_path: bob.saesCa.crl,
        server_cert_path: bob.saesServer.crt,
        server_key_path: bob.saesServer.key,
      },
      debugging_http_interface: "127.0.0.1:18081",
    },
    other_kmes: [{
      id: 1,
      key_directory_to_watch: `${given}/raw_keys/kme-Bob%27s-1`,
      inter_kme_bind_address: "localhost:13001",
      https_client_authentication_certificate: alice.callers.get("Bob's")!.pfx,
      https_client_authentication_certificate_password: "password",
      inter_kme_ca_cert_path: alice.kmesCa.crt,
      inter_kme_crl_path: alice.kmesCa.crl,
      certificates: [{ subject_cn: "KME 1 calling KME Bob's" }],
    }],
    saes: [
      { id: 1, kme_id: 1 },
      { id: 2, kme_id: 1 },
      { id: 3, kme_id: "Bob's", certificates: [{ subject_cn: "SAE 3" }] },
    ],
  });
  const other = await readJson5(alice.config!);
  assert.equal(other.other_kmes[0].inter_kme_bind_address, "[::1]:14001");
  for (const { this_kme, other_kmes } of [config, other]) {
    for (const directory of [this_kme, ...other_kmes].map((kme) => kme.key_directory_to_watch)) {
      assert.ok((await Deno.stat(directory)).isDirectory);
    }
  }
});

Deno.test("a KME without a link is reached through a neighbour", async () => {
  await using out = await makeTempDir();
  const network = twoKmes();
  network.kmes.push({ ...network.kmes[1]!, id: 3, saes: [] });
  network.links = [[1, 2], [2, 3]];
  const { kmes } = await makeNetwork(network, out.path, { configs: true });
  const { other_kmes } = await readJson5(kmes.get("1")!.config!);
  assert.deepEqual(other_kmes[1], { id: 3, reached_through: 2 });
  assert.deepEqual([...kmes.get("1")!.callers.keys()], ["2"], "no certificate for who never calls");
  await assert.rejects(Deno.stat(`${out.path}/raw_keys/kme-1-3`), Deno.errors.NotFound);
});

Deno.test("an existing configuration is not changed, and a warning says when it is out of date", async () => {
  await using out = await makeTempDir();
  const network = twoKmes();
  const { kmes } = await makeNetwork(network, out.path, { configs: true });
  if (Deno.build.os !== "windows") {
    assert.equal((await Deno.stat(`${out.path}/store_kme1.key`)).mode! & 0o777, 0o600);
  }
  const before = await filesOf(out.path);
  network.kmes[1]!.saes!.push({ id: 4 });
  const { warnings } = await makeNetwork(network, out.path, { configs: true });
  assert.equal(warnings.length, 2);
  assert.ok(warnings[0]!.startsWith(`${kmes.get("1")!.config!} was not changed`));
  const changed = differences(before, await filesOf(out.path));
  assert.ok(changed.every((path) => path.includes("client_4")), changed.join());
});

Deno.test("configurations load without changes, also with relayed KMEs and unusual ids", async () => {
  await using out = await makeTempDir();
  const network = twoKmes();
  network.kmes[0]!.id = "Alice's KME";
  network.kmes[0]!.saes = [{ id: "9007199254740993", serial: "0a00" }, { id: 2, serial: "00ff01" }];
  network.kmes.push({
    ...network.kmes[1]!,
    id: 3,
    nickname: undefined,
    saes: [{ id: "x/y" }],
    debugging_http_interface: "127.0.0.1:18082",
  });
  network.kmes[2]!.kmes_interface = { hosts: ["::1", "kme3.example"], port: 15001, listen: "::" };
  network.links = [["Alice's KME", 2], [2, 3]];
  const { kmes } = await makeNetwork(network, out.path, { configs: true });
  for (const kme of kmes.values()) {
    const loaded = await loadConfig(kme.config!);
    assert.ok("config" in loaded, "mistakes" in loaded ? loaded.mistakes.map(formatMistake).join("\n") : "");
    assert.deepEqual(loaded.warnings.map(formatMistake), []);
    for (const sae of loaded.config.saes.filter((sae) => sae.kmeId === kme.id)) {
      assert.deepEqual(sae.certificates, [{ subjectCn: `SAE ${sae.id.text}` }]);
    }
  }
});

Deno.test("a configuration names no CRL that does not exist, and an existing one is kept", async () => {
  await using out = await makeTempDir();
  const network = twoKmes();
  await makeNetwork(network, out.path);
  // The key of a CA may be elsewhere: then its CRL cannot be made.
  await Deno.remove(`${out.path}/kme-1-local-zone/ca.key`);
  await makeNetwork(network, out.path, { revoke: "kme2-to-kme1" });
  const revoking = await Deno.readTextFile(`${out.path}/inter_kmes/ca_kme1.crl`);
  const { kmes } = await makeNetwork(network, out.path, { configs: true });
  const { this_kme } = await readJson5(kmes.get("1")!.config!);
  assert.equal(this_kme.saes_https_interface.client_crl_path, undefined);
  assert.equal(this_kme.kmes_https_interface.client_crl_path, kmes.get("1")!.kmesCa.crl);
  assert.equal(await Deno.readTextFile(`${out.path}/inter_kmes/ca_kme1.crl`), revoking);
});
