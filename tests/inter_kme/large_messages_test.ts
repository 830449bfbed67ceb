/** Large messages between KMEs do not delay other requests, and those of unknown callers are not read. */
import assert from "node:assert/strict";
import { once } from "node:events";
import tls from "node:tls";
import type { NetworkSpec, TestNetwork } from "../harness/test_network.ts";
import { PeerPath } from "../../src/inter_kme/wire.ts";
import { stockOf } from "../sae_api/api_fixture.ts";
import { KmeCaller, startFirst } from "./rust_kme.ts";

const spec: NetworkSpec = { kmes: [{ id: 1, saes: [1] }, { id: 2, saes: [3] }] };

/** The head of a request on the inter-KME port of KME 1, and what comes back. */
async function sendHead(network: TestNetwork, certificate: { cert: string; key: string }, path: string) {
  const socket = tls.connect({
    host: "127.0.0.1",
    port: network.kme(1).kmesPort,
    ca: network.interKmeCa.ca,
    cert: certificate.cert,
    key: certificate.key,
  });
  await once(socket, "secureConnect");
  socket.write(`POST ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${3 * 1024 * 1024}\r\n\r\n{`);
  let text = "";
  socket.setEncoding("latin1").on("data", (part: string) => text += part).on("error", () => {});
  return { socket, answer: once(socket, "data").then(() => text) };
}

Deno.test("an unknown caller is refused before its body has come, a neighbour is not", async () => {
  await using network = await startFirst(spec, [1, 2, 3]);
  const unknown = await network.interKmeCa.client({ commonName: "some other KME" });
  for (const path of ["/keys/activate", ...Object.values(PeerPath)]) {
    const { socket, answer } = await sendHead(network, unknown, path);
    assert.match(await answer, /^HTTP\/1\.1 400 /, path);
    socket.destroy();
  }
  const { socket, answer } = await sendHead(network, network.kme(2).interKmeClient, "/kme/v1/transactions");
  using caller = new KmeCaller(network, 1, network.kme(2).interKmeClient);
  const hello = await caller.raw("POST", "/kme/v1/hello", `{"sender_KME_ID":"2"}`);
  assert.equal(hello.status, 200, "one connection waits for its body, the others do not");
  assert.match(hello.text, /\}\n$/);
  assert.equal(await Promise.race([answer, Promise.resolve("nothing yet")]), "nothing yet");
  socket.destroy();
});

Deno.test("millions of elements are refused at the first wrong one", async () => {
  await using network = await startFirst(spec, [1, 2, 3]);
  using caller = new KmeCaller(network, 1, network.kme(2).interKmeClient);
  const body =
    `{"sender_KME_ID":"2","transactions":[{"transaction_ID":"${crypto.randomUUID()}","origin_SAE_ID":"3",` +
    `"recipients":[{"KME_ID":"1","SAE_IDs":["1"]}],"keys":[{"key_ID":"${crypto.randomUUID()}","size":256,"blocks":[` +
    `${"1,".repeat(1_400_000)}1]}]}]}`;
  const refused = await caller.raw("POST", "/kme/v1/transactions", body);
  assert.equal(refused.status, 400);
  if (Deno.build.os === "linux") {
    const status = await Deno.readTextFile(`/proc/${network.process.pid}/status`);
    const kilobytes = Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)![1]);
    assert.ok(kilobytes < 700_000, `the KME has taken ${kilobytes} kB`);
  }
  assert.equal(await stockOf(network.client(1), 3), 3);
});
