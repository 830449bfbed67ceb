/** Clause 4: overview. */
import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import { assertSameKeys, keyIdsOf } from "../harness/sae_client.ts";
import { assertRefused, clause, clientLike, newKeys, strangersCertificate, target } from "./target.ts";

const { master, slave, third } = target;

clause("4: KMEs shall provide Web API server functionality to deliver keys to SAEs via HTTPS", async () => {
  assert.equal(keyIdsOf(await newKeys()).length, 1);
});

clause("4: all communications between SAE and KME shall use HTTPS: plain HTTP gets nothing", async () => {
  const { hostname = "127.0.0.1", port } = master.options;
  const socket = net.connect({ host: hostname, port });
  await once(socket, "connect");
  let answer = "";
  socket.on("data", (chunk) => answer += chunk);
  socket.on("error", () => {});
  const closed = once(socket, "close");
  const path = `/api/v1/keys/${encodeURIComponent(slave.id)}/status`;
  socket.write(`GET ${path} HTTP/1.1\r\nHost: ${hostname}\r\nConnection: close\r\n\r\n`);
  await closed;
  assert.doesNotMatch(answer, /^HTTP\/1\.[01] 2/);
  assert.doesNotMatch(answer, /key_size/);
});

for (const version of ["TLSv1.2", "TLSv1.3"] as const) {
  clause(`4: TLS version 1.2 or higher: ${version}, where the KME speaks it, delivers keys`, async () => {
    const client = clientLike(master, { minVersion: version, maxVersion: version, agent: false });
    const response = await client.status(slave.id).catch(() => undefined);
    if (response === undefined) {
      const other = version === "TLSv1.2" ? "TLSv1.3" : "TLSv1.2";
      const another = clientLike(master, { minVersion: other, maxVersion: other, agent: false });
      assert.equal((await another.status(slave.id)).status, 200, "neither TLS 1.2 nor TLS 1.3 is spoken");
      return;
    }
    assert.equal(response.status, 200);
  });
}

clause("4: TLS version 1.2 or higher: a client that offers TLS 1.1 at most is refused", async () => {
  // The same greeting is understood when it offers 1.2, or is answered with an alert when only 1.3 is spoken.
  const understood = await answerToHello(0x0303);
  assert.ok([0x16, 0x15].includes(understood[0]!), "the greeting is not understood");
  const answer = await answerToHello(0x0302);
  assert.notEqual(answer[0], 0x16, "the handshake goes on with TLS 1.1");
});

clause(
  "4: KMEs shall authenticate each request: without a client certificate there is no key",
  async () => {
    const client = clientLike(master, { cert: undefined, key: undefined, agent: false });
    await assertRefused(client.status(slave.id));
  },
);

clause("4: KMEs shall authenticate each request: a certificate of an unknown CA is no identity", async () => {
  const client = clientLike(master, { ...await strangersCertificate(), agent: false });
  await assertRefused(client.status(slave.id));
});

clause("4: KMEs shall identify the unique SAE ID of the calling SAE", async () => {
  for (const [caller, other] of [[master, slave], [slave, master], [third, master]] as const) {
    const status = await caller.client.status(other.id);
    assert.equal(status.status, 200);
    assert.equal(status.json.master_SAE_ID, caller.id);
  }
});

clause("4: each KME shall have a KME ID that is unique in the network", async () => {
  const here = target.status;
  const there = (await slave.client.status(master.id)).json;
  assert.equal(there.source_KME_ID, here.target_KME_ID);
  assert.equal(there.target_KME_ID, here.source_KME_ID);
});

clause(
  "4: data in the message body shall be encoded in JSON as per IETF RFC 8259: UTF-8 without a mark",
  async () => {
    for (const response of [await master.client.status(slave.id), await newKeys()]) {
      assert.notEqual(response.json, undefined, "the body is not JSON");
      assert.ok(!response.text.startsWith("\ufeff"), "a byte order mark begins the body");
      assert.ok(!response.text.includes("\ufffd"), "the body is not UTF-8");
    }
  },
);

clause("4: master and slave SAE get identical key materials with identical key IDs", async () => {
  const enc = await newKeys();
  const dec = await slave.client.decKeys(master.id, keyIdsOf(enc));
  assertSameKeys(dec, enc);
});

/** What a server answers to a greeting that offers this version at most; empty when it closes the connection. */
async function answerToHello(version: number): Promise<Uint8Array> {
  const { hostname = "127.0.0.1", port } = master.options;
  const socket = net.connect({ host: hostname, port });
  await once(socket, "connect");
  const chunks: number[] = [];
  socket.on("error", () => {});
  const answered = new Promise<void>((resolve) => {
    socket.on("data", (chunk: Uint8Array) => {
      chunks.push(...chunk);
      resolve();
    });
    socket.on("close", () => resolve());
  });
  socket.write(clientHello(version));
  await answered;
  socket.destroy();
  return Uint8Array.from(chunks);
}

/** A ClientHello of RFC 5246 with the cipher suites of all its versions, without `supported_versions`. */
function clientHello(version: number): Uint8Array {
  const two = (value: number) => [value >> 8, value & 0xff];
  const suites = [
    0xc02b,
    0xc02f,
    0xc02c,
    0xc030,
    0xcca9,
    0xcca8,
    0xc009,
    0xc013,
    0xc00a,
    0xc014,
    0x002f,
    0x0035,
  ];
  const extension = (type: number, body: number[]) => [...two(type), ...two(body.length), ...body];
  const list = (values: number[]) => [...two(2 * values.length), ...values.flatMap(two)];
  const extensions = [
    ...extension(10, list([0x001d, 0x0017, 0x0018])),
    ...extension(11, [1, 0]),
    ...extension(
      13,
      list([0x0403, 0x0503, 0x0603, 0x0804, 0x0805, 0x0806, 0x0401, 0x0501, 0x0601, 0x0203, 0x0201]),
    ),
    ...extension(23, []),
    ...extension(0xff01, [0]),
  ];
  const body = [
    ...two(version),
    ...crypto.getRandomValues(new Uint8Array(32)),
    0,
    ...list(suites),
    1,
    0,
    ...two(extensions.length),
    ...extensions,
  ];
  const handshake = [1, 0, ...two(body.length), ...body];
  return Uint8Array.from([0x16, 3, 1, ...two(handshake.length), ...handshake]);
}
