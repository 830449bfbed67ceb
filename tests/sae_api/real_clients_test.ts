/** Requests as existing clients and devices send them, to the byte where it matters. */
import assert from "node:assert/strict";
import https from "node:https";
import type tls from "node:tls";
import { findProgram, testWith } from "../harness/installed.ts";
import { assertSameKeys, keyIdsOf, keysOf, readToEnd, type SaeClient } from "../harness/sae_client.ts";
import { makeTempDir } from "../harness/temp_dir.ts";
import { makeTestNetwork } from "../harness/test_network.ts";
import { startNetwork } from "./api_fixture.ts";

const KEYS = "/api/v1/keys";

/** As long as FortiOS accepts it. */
const LONG_ID = "FGT-".padEnd(291, "x");

/** KMEs with SAEs under names that devices have. */
const network = await startNetwork(
  {
    kmes: [
      { id: 1, saes: ["sae_001", "mx304-10", "CONSA", 123456, "FGT-A", 1, LONG_ID] },
      { id: 2, saes: ["mx10008-25", "CONSB", "mt-aaa", "a2b63e2c-1111-4c1f-9c55-6b4b4d4f1d1e"] },
      { id: 3, saes: ["mx10008-24", "mx10008-23"] },
    ],
  },
  [1, 2, 420],
  [1, 1, 40],
  [1, 3, 20],
);
Deno.test.afterAll(() => network.remove());

/** An address of the loopback that no other test has. */
const ADDRESS = "127.43.77.1";

function canServe443(): boolean {
  try {
    Deno.listen({ hostname: ADDRESS, port: 443 }).close();
    return true;
  } catch {
    return false;
  }
}

const client = (sae: string | number) => network.client(sae);

/** Writes one request, and resolves with the answer; the connection stays open. */
async function ask(socket: tls.TLSSocket, request: string): Promise<{ head: string; body: string }> {
  let text = "";
  const answered = new Promise<{ head: string; body: string }>((resolve, reject) => {
    const onData = (chunk: Uint8Array) => {
      text += new TextDecoder().decode(chunk);
      const end = text.indexOf("\r\n\r\n");
      const length = /content-length: (\d+)/i.exec(text)?.[1];
      if (end < 0 || length === undefined || text.length < end + 4 + Number(length)) return;
      socket.off("data", onData);
      resolve({ head: text.slice(0, end), body: text.slice(end + 4) });
    };
    socket.on("data", onData);
    socket.once("close", () => reject(new Error("closed before the answer")));
  });
  socket.write(request);
  return await answered;
}

function post(client: SaeClient, path: string, body: string, type = "application/json") {
  return client.raw({ method: "POST", path, headers: { "Content-Type": type }, body });
}

function bytesOf(key: { key: string }): number {
  return atob(key.key).length;
}

Deno.test("Juniper's on-box automation: key_size in the URL of both calls", async () => {
  const encrypt = await client("mx304-10").raw({ path: `${KEYS}/mx10008-25/enc_keys?key_size=256` });
  const [key] = keysOf(encrypt);
  assert.equal(bytesOf(key!), 32);
  const decrypt = await client("mx10008-25").raw({
    path: `${KEYS}/mx304-10/dec_keys?key_ID=${key!.key_ID}&key_size=256`,
  });
  assertSameKeys(decrypt, encrypt);
});

Deno.test("Juniper's older automation: keys of 16 bytes, and one key for three routers and the master", async () => {
  const short = await client("sae_001").raw({ path: `${KEYS}/mx304-10/enc_keys?number=1&size=128` });
  assert.equal(bytesOf(keysOf(short)[0]!), 16);
  const master = client("mx304-10");
  const body = '{"additional_slave_SAE_IDs":["mx10008-24","mx10008-23"]}';
  const made = await post(master, `${KEYS}/mx10008-25/enc_keys`, body);
  for (const slave of ["mx10008-25", "mx10008-24", "mx10008-23"]) {
    assertSameKeys(await client(slave).decKeys("mx304-10", keyIdsOf(made)), made);
  }
});

Deno.test("arnika: number and size in the URL of a POST whose body is empty, {} or says the same", async () => {
  const [a, b] = [client("CONSA"), client("CONSB")];
  const path = `${KEYS}/CONSB/enc_keys`;
  for (const body of ["{}", "", '{"number":1,"size":256}']) {
    const made = await post(a, `${path}?number=1&size=256`, body);
    // Its test script looks for the key_ID with a pattern that has no space.
    assert.match(made.text, /"key_ID":"[0-9a-f-]{36}"/);
    const [id] = keyIdsOf(made);
    const list = JSON.stringify({ key_IDs: [id] });
    assert.equal((await post(b, `${KEYS}/CONSA/dec_keys`, list)).status, 400, "a list of texts");
    const objects = JSON.stringify({ key_IDs: [{ key_ID: id }] });
    assertSameKeys(await post(b, `${KEYS}/CONSA/dec_keys`, objects), made);
  }
  const withBody = await a.raw({
    path,
    headers: { "Content-Type": "application/json" },
    body: '{"number":1,"size":256}',
  });
  assert.equal(withBody.status, 400, "the body of a GET cannot be read: it is not ignored");
});

Deno.test("Cosmian KMS and others: POST without a body, with and without a type", async () => {
  const socket = await client("CONSA").openSocket();
  for (const type of ["", "Content-Type: application/json\r\n"]) {
    for (const length of ["", "Content-Length: 0\r\n"]) {
      const { head, body } = await ask(
        socket,
        `POST ${KEYS}/CONSB/enc_keys HTTP/1.1\r\nHost: kme:13000\r\n${type}${length}\r\n`,
      );
      assert.match(head, /^HTTP\/1\.1 200 /);
      assert.equal(bytesOf(JSON.parse(body).keys[0]), 32);
    }
  }
  socket.destroy();
});

Deno.test("MikroTik RouterOS: several POSTs on one connection, with a Host of an address without port", async () => {
  const socket = await client("CONSA").openSocket();
  const body = (size: number) => `{"number":1,"size":${size}}`;
  const request = (size: number) =>
    `POST ${KEYS}/mt-aaa/enc_keys HTTP/1.1\r\nHost: 10.2.3.4\r\nContent-Type: application/json\r\n` +
    `Content-Length: ${body(size).length}\r\n\r\n${body(size)}`;
  // Its key-size is in bytes, and it sends bits; the trace in its manual asks for 64, which are 8 bytes.
  for (const size of [512, 512, 512, 512, 512, 64]) {
    const answer = await ask(socket, request(size));
    assert.match(answer.head, /^HTTP\/1\.1 200 /);
    assert.equal(bytesOf(JSON.parse(answer.body).keys[0]), size / 8);
  }
  socket.destroy();
});

Deno.test("an id that looks like an integer and one that does not are one id each, and texts in Status", async () => {
  const status = await client("FGT-A").status("123456");
  assert.equal(status.json.slave_SAE_ID, "123456");
  assert.equal(status.json.master_SAE_ID, "FGT-A");
  const made = await client("FGT-A").encKeys("123456");
  assertSameKeys(await client(123456).decKeys("FGT-A", keyIdsOf(made)), made);
});

Deno.test("FortiOS: ids of 291 characters, as master and as slave", async () => {
  for (const [master, slave] of [[LONG_ID, "CONSB"], ["CONSB", LONG_ID]] as const) {
    const made = await client(master).encKeys(slave);
    assert.equal(keyIdsOf(made).length, 1);
    assertSameKeys(await client(slave).decKeys(master, keyIdsOf(made)), made);
  }
});

Deno.test("qkd-stub, merqury and next-door-key: keys of 8, 24, 1024 and 65,536 bits", async () => {
  for (const size of [8, 24, 1024, 65_536]) {
    const made = await client("CONSA").encKeys("CONSB", { size });
    assert.deepEqual(keysOf(made).map(bytesOf), [size / 8]);
    assertSameKeys(await client("CONSB").decKeys("CONSA", keyIdsOf(made)), made);
  }
});

Deno.test("Senetas: the slave's id is a UUID", async () => {
  const id = "a2b63e2c-1111-4c1f-9c55-6b4b4d4f1d1e";
  const made = await client(1).raw({ path: `${KEYS}/${id}/enc_keys?number=1&size=256` });
  assertSameKeys(await client(id).decKeys("1", keyIdsOf(made)), made);
});

Deno.test("rmw_axon: the key_ID of an answer is the one that was issued, in lower case, however it was asked for", async () => {
  const made = await client("CONSA").encKeys("CONSB", { number: 2 });
  const [first, second] = keyIdsOf(made) as [string, string];
  const path = (id: string) => `${KEYS}/CONSA/dec_keys?key_ID=${id}`;
  assert.deepEqual(keyIdsOf(await client("CONSB").raw({ path: path(first) })), [first]);
  assert.deepEqual(keyIdsOf(await client("CONSB").raw({ path: path(second.toUpperCase()) })), [second]);
});

Deno.test("clients with serializers: every optional member is there, as null", async () => {
  const made = await client("CONSA").encKeys("CONSB", {}, {
    body: {
      number: 1,
      size: null,
      additional_slave_SAE_IDs: null,
      extension_mandatory: null,
      extension_optional: null,
    },
  });
  const key_IDs = keyIdsOf(made).map((key_ID) => ({ key_ID, key_ID_extension: null }));
  const body = { key_IDs, key_IDs_extension: null };
  assertSameKeys(await client("CONSB").decKeys("CONSA", [], { body }), made);
});

Deno.test("a new connection for each request, closed after it, leaks nothing", async () => {
  const { processes } = network;
  const open = () => [...Deno.readDirSync(`/proc/${processes[0]!.pid}/fd`)].length;
  const askOnce = async (sae: string) => {
    const socket = await client(sae).openSocket();
    socket.write(`GET ${KEYS}/CONSB/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
    assert.match(await readToEnd(socket), /^HTTP\/1\.1 200 /);
  };
  await Promise.all([askOnce("CONSA"), askOnce("mx304-10")]);
  const before = Deno.build.os === "linux" ? open() : 0;
  for (let i = 0; i < 30; i++) await Promise.all([askOnce("CONSA"), askOnce("mx304-10")]);
  if (Deno.build.os === "linux") assert.ok(open() < before + 30, "connections are left open");
});

Deno.test("probes: any Accept is answered with JSON, and doubled slashes do not matter", async () => {
  for (const Accept of ["*/*", "text/html", "application/xml;q=0.9"]) {
    const { status, headers } = await client("CONSA").raw({
      path: `${KEYS}/CONSB/status`,
      headers: { Accept },
    });
    assert.deepEqual([status, headers["content-type"]], [200, "application/json"]);
  }
  const doubled = await client("CONSA").raw({ path: "/api/v1/keys//CONSB//enc_keys/" });
  assert.equal(keyIdsOf(doubled).length, 1);
});

Deno.test("headers that name another SAE are ignored", async () => {
  const headers = { "Request-SAE-ID": "CONSB", "X-SSL-Client-CN": "CONSB", "X-Forwarded-For": "10.0.0.1" };
  const response = await client("CONSA").raw({ path: "/api/v1/sae/info/me", headers });
  assert.equal(response.json.SAE_ID, "CONSA");
});

Deno.test("a batch with a key of another pair is refused as a whole, and nothing of it is read", async () => {
  const own = await client("CONSA").encKeys("CONSB");
  const foreign = await client("CONSA").encKeys("mx10008-25");
  const ids = [...keyIdsOf(own), ...keyIdsOf(foreign)];
  assert.equal((await client("CONSB").decKeys("CONSA", ids)).status, 401);
  assertSameKeys(await client("CONSB").decKeys("CONSA", keyIdsOf(own)), own);
  assertSameKeys(await client("mx10008-25").decKeys("CONSA", keyIdsOf(foreign)), foreign);
});

Deno.test("a limit that is exceeded is named: number, and the texts that clients compare", async () => {
  const tooMany = await client("CONSA").encKeys("CONSB", { number: 129 });
  assert.equal(tooMany.status, 400);
  assert.match(tooMany.json.message, /^number\b.*128/);
  for (const body of ['{"number":"1"}', '{"number":1.5}']) {
    assert.equal((await post(client("CONSA"), `${KEYS}/CONSB/enc_keys`, body)).status, 400, body);
  }
  for (const body of ['{"number":1.0}', '{"number":1e0}']) {
    const made = await post(client("CONSA"), `${KEYS}/CONSB/enc_keys`, body);
    assert.equal(keyIdsOf(made).length, 1, body);
  }
});

Deno.test("Juniper's lab: a router that asks the wrong KME is told that its certificate is not of that KME", async () => {
  const made = await client("CONSA").encKeys("CONSB");
  const { saesPort, zoneCa } = network.kme(1);
  const wrong = network.client("CONSB", { port: saesPort, ca: zoneCa.ca });
  const refused = await wrong.decKeys("CONSA", keyIdsOf(made));
  assert.equal(refused.status, 401);
  assert.match(refused.json.message, /issued by .*zone CA of KME 2.*not trusted/);
  assertSameKeys(await client("CONSB").decKeys("CONSA", keyIdsOf(made)), made);
});

Deno.test({
  name: `Junos: a URL with an address, without port and path${
    canServe443() ? "" : " (port 443 cannot be opened here)"
  }`,
  ignore: !canServe443(),
  fn: async () => {
    await using junos = await makeTestNetwork({
      kmes: [{ id: 1, saes: ["srx-1", "srx-2"] }],
      edit: ({ this_kme }) => void (this_kme.saes_https_interface.listen_address = `${ADDRESS}:443`),
    });
    const { directory, zoneCa } = junos.kme(1);
    const server = await zoneCa.server({ hosts: [ADDRESS] });
    await Deno.writeTextFile(`${directory}/saes-server-cert.pem`, server.cert);
    await Deno.writeTextFile(`${directory}/saes-server-key.pem`, server.key);
    await junos.start(1);
    const { cert, key, ca } = junos.sae("srx-1");
    const [status, body] = await new Promise<[number | undefined, string]>((resolve, reject) => {
      https.get(`https://${ADDRESS}${KEYS}/srx-2/status`, { cert, key, ca, agent: false }, (response) => {
        let text = "";
        response.on("data", (chunk) => text += chunk);
        response.on("end", () => resolve([response.statusCode, text]));
      }).on("error", reject);
    });
    assert.equal(status, 200);
    assert.equal(JSON.parse(body).slave_SAE_ID, "srx-2");
  },
});

const curl = findProgram("/usr/bin/curl", "/usr/local/bin/curl");

/** Arguments for curl to a KME as one SAE. */
async function withCurl(
  program: string,
  args: (root: string) => string[],
): Promise<{ code: number; out: string; error: string }> {
  await using directory = await makeTempDir();
  const { cert, key } = network.sae("CONSA");
  const file = async (name: string, text: string) => {
    await Deno.writeTextFile(`${directory.path}/${name}`, text);
    return `${directory.path}/${name}`;
  };
  const { zoneCa, saesPort } = network.kme(1);
  const { code, stdout, stderr } = await new Deno.Command(program, {
    args: [
      "-sS",
      ...["--cacert", await file("ca.pem", zoneCa.ca)],
      ...["--cert", await file("cert.pem", cert), "--key", await file("key.pem", key)],
      ...args(`https://localhost:${saesPort}${KEYS}`),
    ],
    stdout: "piped",
    stderr: "piped",
  }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, out: text(stdout), error: text(stderr) };
}

testWith(curl, "no curl", "curl: -d without a type, HTTP/1.0, and HTTP/2 offered", async (program) => {
  const requests = [
    ["-d", '{"number":1}'],
    ["--http1.0"],
    ["--http1.0", "-d", '{"number":1}'],
    ["--http2", "-d", '{"number":1}'],
    ["-H", "Expect: 100-continue", "--json", '{"number":1}'],
  ];
  for (const options of requests) {
    const { code, out, error } = await withCurl(program, (keys) => [...options, `${keys}/CONSB/enc_keys`]);
    assert.equal(code, 0, error);
    assert.ok(JSON.parse(out).keys?.length === 1, `${options}: no key`);
  }
  const form = await withCurl(program, (keys) => ["-d", "number=1", `${keys}/CONSB/enc_keys`]);
  assert.equal(JSON.parse(form.out).message, "the body must be application/json");
});
