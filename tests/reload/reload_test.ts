import assert from "node:assert/strict";
import tls from "node:tls";
import { X509Certificate } from "node:crypto";
import { eventually } from "../harness/eventually.ts";
import { makeTestNetwork } from "../harness/test_network.ts";
import { SaeClient, type SaeResponse } from "../harness/sae_client.ts";
import { serialBytes } from "../harness/test_certificates.ts";

const posixOnly = { ignore: Deno.build.os === "windows" };

/** Requests on one connection that is kept open. */
async function keptConnection(options: tls.ConnectionOptions) {
  const socket = tls.connect({ host: "127.0.0.1", ...options });
  await new Promise((resolve, reject) => socket.once("secureConnect", resolve).once("error", reject));
  let text = "";
  let wake = () => {};
  socket.setEncoding("latin1").on("data", (part: string) => {
    text += part;
    wake();
  }).on("close", () => wake());
  return {
    socket,
    /** Status code of the answer. */
    async get(path: string): Promise<number> {
      text = "";
      socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
      while (true) {
        const [head, body] = text.split("\r\n\r\n");
        const length = /content-length: (\d+)/i.exec(head!)?.[1];
        if (body !== undefined && length !== undefined && body.length >= Number(length)) {
          return Number(/^HTTP\/1\.1 (\d+)/.exec(head!)![1]);
        }
        assert.ok(!socket.destroyed, "the connection was closed");
        await new Promise<void>((resolve) => wake = resolve);
      }
    },
  };
}

function serverSerial(port: number, { cert, key, ca }: { cert: string; key: string; ca: string }) {
  return new Promise<string>((resolve, reject) => {
    const socket = tls.connect({ host: "127.0.0.1", port, cert, key, ca }, () => {
      resolve(socket.getPeerX509Certificate()!.serialNumber);
      socket.destroy();
    });
    socket.once("error", reject);
  });
}

async function refused(request: Promise<SaeResponse>): Promise<number> {
  const { status } = await request;
  return status;
}

Deno.test("SIGHUP reloads certificates and SAEs; connections and keys stay", posixOnly, async (t) => {
  await using network = await makeTestNetwork({
    kmes: [{ id: 1, saes: [1, 2], database: "sqlite" }, { id: 2, saes: [3] }],
  });
  const one = network.kme(1);
  await network.writeKeyFile(1, 1, 50);
  await network.writeKeyFile(1, 2, 50);
  const [kme, other] = await network.startAll() as [
    Awaited<ReturnType<typeof network.start>>,
    Awaited<ReturnType<typeof network.start>>,
  ];
  const status = (sae: number, slave: number) => network.client(sae).status(slave);
  await eventually(async () => (await status(1, 2)).json.stored_key_count === 50);
  const reload = async (process = kme, count = 1) => {
    const seen = () => process.lines.filter((line) => /was (not )?reloaded/.test(line)).length;
    const before = seen();
    process.signal("SIGHUP");
    await eventually(() => seen() >= before + count);
  };
  const { cert, key, ca } = network.sae(1);
  const kept = await keptConnection({ port: one.saesPort, cert, key, ca });
  const statusPath = "/api/v1/keys/2/status";
  assert.equal(await kept.get(statusPath), 200);
  const sae2 = await keptConnection({ port: one.saesPort, ...network.sae(2) });
  assert.equal(await sae2.get("/api/v1/keys/1/status"), 200);

  await t.step(
    "an SAE gets a certificate with another serial, its old one is of no use any more",
    async () => {
      const renewed = await network.issueClient(1);
      await network.writeConfig(1, ({ saes }) => {
        saes[0]!.https_client_certificate_serial = serialBytes(renewed.serialHex);
      });
      assert.equal(await kept.get(statusPath), 200);
      await reload();
      assert.equal(await kept.get(statusPath), 401);
      using client = new SaeClient({ port: one.saesPort, ...renewed });
      assert.equal((await client.encKeys(2)).status, 200);
      await network.writeConfig(1, ({ saes }) => {
        saes[0]!.https_client_certificate_serial = serialBytes(network.sae(1).serialHex);
      });
      await reload();
      // The same connection all the time.
      assert.equal(await kept.get(statusPath), 200);
    },
  );

  await t.step("an SAE is added, and can be named by others", async () => {
    const fourth = await network.issueClient(1);
    using client = new SaeClient({ port: one.saesPort, ...fourth });
    assert.equal(await refused(client.status(1)), 401);
    assert.equal(await refused(network.client(1).status(4)), 400);
    await network.writeConfig(1, ({ saes }) => {
      saes.push({ id: 4, kme_id: 1, https_client_certificate_serial: serialBytes(fourth.serialHex) });
    });
    await reload();
    assert.equal((await client.status(1)).status, 200);
    assert.equal((await network.client(1).encKeys(4)).status, 200);
  });

  await t.step("a removed SAE has no access, on its open connection too", async () => {
    await network.writeConfig(1, ({ saes }) => void saes.splice(1, 1));
    await reload();
    assert.equal(await sae2.get("/api/v1/keys/1/status"), 401);
    assert.equal(await kept.get("/api/v1/keys/4/status"), 200);
    assert.equal(await kept.get(statusPath), 400);
  });

  await t.step("a server certificate is renewed for new connections, open ones stay", async () => {
    const server = await one.zoneCa.server();
    const before = await serverSerial(one.saesPort, network.sae(1));
    await Deno.writeTextFile(`${one.directory}/saes-server-cert.pem`, server.cert);
    await Deno.writeTextFile(`${one.directory}/saes-server-key.pem`, server.key);
    await reload();
    const after = await serverSerial(one.saesPort, network.sae(1));
    assert.notEqual(after, before);
    assert.equal(after, new X509Certificate(server.cert).serialNumber);
    assert.equal(await kept.get("/api/v1/keys/4/status"), 200);
  });

  await t.step(
    "a new server certificate without its key changes nothing until the key is there too",
    async () => {
      const server = await one.zoneCa.server();
      const before = await serverSerial(one.saesPort, network.sae(1));
      await Deno.writeTextFile(`${one.directory}/saes-server-cert.pem`, server.cert);
      await reload();
      await kme.waitForLine(/saes_https_interface\.server_key_path: the private key does not belong to/);
      assert.equal(await serverSerial(one.saesPort, network.sae(1)), before);
      await Deno.writeTextFile(`${one.directory}/saes-server-key.pem`, server.key);
      await reload();
      const after = await serverSerial(one.saesPort, network.sae(1));
      assert.equal(after, new X509Certificate(server.cert).serialNumber);
    },
  );

  await t.step("mistakes are logged, and the old state stays", async () => {
    await network.writeConfig(1, ({ saes }) => saes[0]!.kme_id = 99);
    await reload();
    await kme.waitForLine(/saes\[0\]\.kme_id: no KME 99 is configured/);
    await kme.waitForLine(/was not reloaded because of its mistakes; the KME goes on as before/);
    assert.equal(await kept.get("/api/v1/keys/4/status"), 200);
    await network.writeConfig(1, ({ saes }) => saes[0]!.kme_id = 1);

    const path = `${one.directory}/kmes-ca.pem`;
    await Deno.writeTextFile(path, (await network.interKmeCa.client()).cert);
    const server = await one.zoneCa.server();
    await Deno.writeTextFile(`${one.directory}/saes-server-cert.pem`, server.cert);
    await Deno.writeTextFile(`${one.directory}/saes-server-key.pem`, server.key);
    const before = await serverSerial(one.saesPort, network.sae(1));
    await reload();
    await kme.waitForLine(/kmes_https_interface\.ca_client_cert_path: no CA certificate for clients/);
    assert.equal(await serverSerial(one.saesPort, network.sae(1)), before);
    await Deno.writeTextFile(path, network.interKmeCa.ca);
  });

  await t.step("what needs a restart is named and left out", async () => {
    const edited = structuredClone(one.config);
    await network.writeConfig(1, ({ this_kme, other_kmes, saes }) => {
      this_kme.max_key_per_request = 1;
      this_kme.saes_https_interface.listen_address = "127.0.0.1:1";
      other_kmes[0]!.inter_kme_bind_address = "127.0.0.1:2";
      other_kmes.push({ id: 8, reached_through: 2 });
      saes.push({ id: 80, kme_id: 8 });
    });
    await reload();
    for (
      const what of [
        /left out until the next start: this_kme\.max_key_per_request/,
        /left out .*this_kme\.saes_https_interface\.listen_address/,
        /left out .*the link with KME 2/,
        /left out .*KME 8 was added to other_kmes/,
        /left out .*SAE 80 of KME 8/,
      ]
    ) await kme.waitForLine(what);
    assert.equal((await network.client(1).encKeys(4, { number: 2 })).status, 200);
    await network.writeConfig(1, (config) => Object.assign(config, edited));
  });

  await t.step("the certificate for a neighbour is renewed on both sides, keys go on", async () => {
    assert.equal((await network.client(1).encKeys(3)).status, 200);
    const renewed = await network.interKmeCa.client({ commonName: "KME 1, renewed" });
    await Deno.writeFile(`${one.directory}/client.pfx`, await renewed.toPkcs12("for tests"));
    await reload();
    // KME 2 knows the old serial only: the new certificate is in use.
    assert.equal((await network.client(1).encKeys(3)).status, 503);
    await network.writeConfig(2, ({ other_kmes }) => {
      other_kmes[0]!.https_client_certificate_serial = serialBytes(renewed.serialHex);
    });
    await reload(other);
    const answer = await network.client(1).encKeys(3);
    assert.equal(answer.status, 200, answer.text);
    const id = answer.json.keys[0].key_ID;
    assert.equal((await network.client(3).decKeys(1, id)).status, 200);
  });

  await t.step("the first connection was never closed", async () => {
    assert.equal(await kept.get("/api/v1/keys/4/status"), 200);
    kept.socket.destroy();
    sae2.socket.destroy();
    assert.equal(await kme.stop(), 0);
  });
});

Deno.test("several SIGHUPs at once are handled one after the other", posixOnly, async () => {
  await using network = await makeTestNetwork({ kmes: [{ id: 1, saes: [1] }] });
  const kme = await network.start(1);
  for (let i = 0; i < 5; i++) kme.signal("SIGHUP");
  await kme.waitForLine(/was reloaded/);
  assert.equal(await kme.stop(), 0);
});
