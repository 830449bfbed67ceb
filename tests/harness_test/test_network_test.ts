import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { X509Certificate } from "node:crypto";
import { blockKeyId, formatKeyId } from "../../src/domain/block.ts";
import { makeTestNetwork } from "../harness/test_network.ts";

async function names(directory: string): Promise<string[]> {
  return (await Array.fromAsync(Deno.readDir(directory))).map((entry) => entry.name).toSorted();
}

Deno.test("a network has a configuration for each KME, with the SAEs of all and the serials of its own", async () => {
  await using network = await makeTestNetwork({
    kmes: [
      { id: 1, nickname: "Alice", saes: [1, { id: 2, serialHex: "00ff01" }], console: true },
      { id: "two", database: "sqlite", saes: [9007199254740993n], options: { max_key_per_request: 5 } },
    ],
  });
  const one = network.kme(1);
  const config = JSON.parse(await Deno.readTextFile(one.configPath));
  assert.equal(config.this_kme.id, 1);
  assert.equal(config.this_kme.nickname, "Alice");
  assert.equal(config.this_kme.db_uri, ":memory:");
  assert.equal(config.this_kme.saes_https_interface.listen_address, `127.0.0.1:${one.saesPort}`);
  assert.equal(config.this_kme.debugging_http_interface, `127.0.0.1:${one.consolePort}`);
  assert.deepEqual(config.saes[1], { id: 2, kme_id: 1, https_client_certificate_serial: [255, 1] });
  assert.equal(BigInt(`0x${new X509Certificate(network.sae(2).cert).serialNumber}`), 0xff01n);
  assert.deepEqual(Object.keys(config.saes[2]), ["id", "kme_id"]);
  assert.equal(config.other_kmes.length, 1);
  assert.equal(config.other_kmes[0].inter_kme_bind_address, `127.0.0.1:${network.kme("two").kmesPort}`);

  const text = await Deno.readTextFile(network.kme("two").configPath);
  assert.match(text, /"id": 9007199254740993\b/);
  const second = JSON.parse(text);
  assert.equal(second.this_kme.max_key_per_request, 5);
  assert.match(second.this_kme.db_uri, /^sqlite:\/\/\/.*kme\.db$/);

  for (const { config } of [one, network.kme("two")]) {
    for (const part of [...Object.values(config.this_kme), ...config.other_kmes]) {
      for (const [member, path] of Object.entries(part as Record<string, string>)) {
        if (/_path$|_certificate$|_to_watch$/.test(member)) await Deno.stat(path);
      }
    }
  }
});

Deno.test("the certificates of a network say that they are for tests and verify against their CA only", async () => {
  await using network = await makeTestNetwork({ kmes: [{ id: 1, saes: [1] }, { id: 2, saes: [2] }] });
  const own = new X509Certificate(network.sae(1).cert);
  const ca = new X509Certificate(network.kme(1).zoneCa.ca);
  assert.match(own.subject, /for tests only/);
  assert.match(ca.subject, /for tests only/);
  assert.ok(own.verify(ca.publicKey));
  assert.ok(!own.verify(new X509Certificate(network.kme(2).zoneCa.ca).publicKey));
  const unknown = await network.issueClient(1);
  assert.ok(new X509Certificate(unknown.cert).verify(ca.publicKey));
  assert.notEqual(unknown.serialHex, network.sae(1).serialHex);
});

Deno.test("writeKeyFile writes the same blocks at both ends and names their key_IDs", async () => {
  await using network = await makeTestNetwork({ kmes: [{ id: 1 }, { id: 2 }] });
  const ids = await network.writeKeyFile(1, 2, 3000);
  assert.equal(new Set(ids).size, 3000);
  const [here, there] = [network.keyDirectory(1, 2), network.keyDirectory(2, 1)];
  const [name] = await names(here);
  assert.match(name!, /\.cor$/);
  assert.deepEqual(await names(there), [name]);
  const bytes = await Deno.readFile(`${here}/${name}`);
  assert.equal(bytes.length, 3000 * 32);
  assert.ok(Buffer.compare(bytes, await Deno.readFile(`${there}/${name}`)) === 0);
  assert.equal(formatKeyId(blockKeyId(bytes.subarray(32, 64))), ids[1]);
  await network.writeKeyFile(1, 2, 1);
  assert.equal((await names(here)).length, 2);

  const content = new TextEncoder().encode("this_is_secret_key_1_of_32_bytes and a rest");
  assert.deepEqual(await network.writeKeyFile(1, 1, content, { name: "own.cor" }), [
    "8844cba7-29e1-3251-a50a-25da13e65eea",
  ]);
  assert.deepEqual(await names(network.keyDirectory(1, 1)), ["own.cor"]);
});

Deno.test("a KME without a link is omitted, or reached through another", async () => {
  const kmes = [{ id: 1, saes: [1] }, { id: 2, saes: [2] }, { id: 3, saes: [3] }];
  const links: [number, number][] = [[1, 2], [2, 3]];
  const reachedThrough = [{ kme: 1, other: 3, through: 2 }];
  await using network = await makeTestNetwork({ kmes, links, reachedThrough });
  const others = (id: number) => network.kme(id).config.other_kmes.map((other) => other.id);
  const saes = (id: number) => network.kme(id).config.saes.map((sae) => sae.id);
  assert.deepEqual(others(1), [2, 3]);
  assert.deepEqual(network.kme(1).config.other_kmes[1], { id: 3, reached_through: 2 });
  assert.deepEqual(saes(1), [1, 2, 3]);
  assert.deepEqual(others(3), [2]);
  assert.deepEqual(saes(3), [2, 3]);
  assert.throws(() => network.keyDirectory(1, 3), /no key directory/);
  await assert.rejects(network.writeKeyFile(1, 3, 1), /no key directory/);
});

Deno.test("the configuration can be changed before and after it is written", async () => {
  await using network = await makeTestNetwork({
    kmes: [{ id: 1, saes: [1, 2] }],
    edit: (config) => config.this_kme.typo = true,
  });
  const read = async () => JSON.parse(await Deno.readTextFile(network.kme(1).configPath));
  assert.equal((await read()).this_kme.typo, true);
  await network.writeConfig(1, (config) => config.saes.pop());
  assert.equal((await read()).saes.length, 1);
});

Deno.test("a specification that names something that it does not define is refused", async () => {
  await assert.rejects(makeTestNetwork({ kmes: [{ id: 1 }], links: [[1, 2]] }), /KME 2 is not in the spec/);
  await assert.rejects(makeTestNetwork({ kmes: [{ id: 1 }, { id: "1" }] }), /twice/);
  await assert.rejects(makeTestNetwork({ kmes: [{ id: 1, saes: [1, 1] }] }), /twice/);
});

Deno.test("remove leaves nothing", async () => {
  const network = await makeTestNetwork({ kmes: [{ id: 1 }] });
  await network.remove();
  await assert.rejects(Deno.stat(network.directory), Deno.errors.NotFound);
  await network.remove();
});
