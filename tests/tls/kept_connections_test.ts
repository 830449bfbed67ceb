/** The clients that request keys, with a server that closes a connection after it has read a second request. */
import assert from "node:assert/strict";
import { once } from "node:events";
import https from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { DeviceClient, DeviceFailure } from "../../src/ingest/device_client.ts";
import { NoAnswer, SaeClient } from "../../src/tools/sae_client.ts";
import { makeTestCa } from "../harness/test_certificates.ts";

const KEY_ID = "00000000-0000-4000-8000-000000000001";

Deno.test("a request for keys whose kept connection breaks is not sent again", async (t) => {
  const ca = await makeTestCa("test CA");
  const { cert, key } = await ca.client({ commonName: "SAE (for tests)" });
  const server = https.createServer(await ca.server({ commonName: "KME (for tests)" }));
  const requests: string[] = [];
  let first: Socket | undefined;
  server.on("request", (request, response) => {
    request.resume().on("end", () => {
      requests.push(`${request.method} ${request.url}`);
      first ??= request.socket;
      if (request.url!.endsWith("/status")) response.end('{"stored_key_count":1}');
      else if (request.socket === first) request.socket.destroy();
      // A request that is sent again over another connection would be answered.
      else response.end(JSON.stringify({ keys: [{ key_ID: KEY_ID, key: btoa("for tests") }] }));
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const sae = () => new SaeClient({ base: new URL(`https://127.0.0.1:${port}`), cert, key, ca: ca.ca });
  const device = () =>
    new DeviceClient({
      device: {
        kind: "etsi014",
        url: { address: { hostname: "127.0.0.1", port }, path: "" },
        localSae: "1",
        remoteSae: "2",
        keySize: 256,
        keysPerRequest: 1,
        targetStock: 1,
        lowStock: 1,
        pollSeconds: 1,
        clientCertificate: {
          kind: "pem",
          cert,
          key,
          passphrase: "",
          validity: { notBefore: 0, notAfter: Infinity },
        },
        serverCa: ca.ca,
      },
      ignoreSystemProxySettings: true,
      timeout: 20_000,
      tlsMinVersion: "1.2",
    });

  /** @param status puts a connection into the pool; `ask` sends its request over it. */
  const isSentOnce = async (status: () => Promise<unknown>, ask: () => Promise<unknown>) => {
    requests.length = 0;
    first = undefined;
    await status();
    await assert.rejects(ask, (error) => {
      return (error instanceof NoAnswer || error instanceof DeviceFailure) && error.sent;
    });
    assert.equal(requests.length, 2, requests.join(", "));
  };
  try {
    for (
      const [name, ask] of [
        ["GET enc_keys", (client) => client.getKeys("2", { number: 1 })],
        ["GET dec_keys", (client) => client.getKeysWithIds("1", [KEY_ID])],
        ["POST dec_keys", (client) => client.getKeysWithIds("1", [KEY_ID, KEY_ID])],
      ] satisfies [string, (client: SaeClient) => Promise<unknown>][]
    ) {
      await t.step(`${name} of an SAE`, async () => {
        const client = sae();
        await isSentOnce(() => client.status("2"), () => ask(client)).finally(() => client.close());
      });
    }
    for (
      const [name, ask] of [
        ["enc_keys", (client) => client.encKeys(1, 256)],
        ["dec_keys", (client) => client.decKeys([KEY_ID])],
      ] satisfies [string, (client: DeviceClient) => Promise<unknown>][]
    ) {
      await t.step(`${name} to a device`, async () => {
        const client = device();
        await isSentOnce(() => client.status(), () => ask(client)).finally(() => client.close());
      });
    }
  } finally {
    server.closeAllConnections();
    server.close();
  }
});
