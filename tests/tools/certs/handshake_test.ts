import assert from "node:assert/strict";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import tls from "node:tls";
import type { MadeCertificate, MadeClient } from "../../../src/tools/certs/made.ts";
import { makeNetwork } from "../../../src/tools/certs/make_network.ts";
import { makeTempDir } from "../../harness/temp_dir.ts";
import { twoKmes } from "./network_files.ts";

/** What the server saw of the client: the serial of its certificate in hex, or why it was refused. */
interface Handshake {
  readonly serial?: string;
  readonly refused?: string;
}

async function handshake(
  server: MadeCertificate,
  clientCa: MadeCertificate,
  client: tls.SecureContextOptions,
  servername: string,
  maxVersion: tls.SecureVersion = "TLSv1.3",
): Promise<Handshake> {
  const listener = tls.createServer({
    cert: await Deno.readTextFile(server.crt),
    key: await Deno.readTextFile(server.key),
    ca: await Deno.readTextFile(clientCa.crt),
    requestCert: true,
    rejectUnauthorized: true,
  });
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  const seen = Promise.withResolvers<Handshake>();
  listener.on("secureConnection", (socket) => {
    const serial = socket.getPeerX509Certificate()!.serialNumber.toLowerCase();
    socket.on("error", () => {});
    socket.end(() => seen.resolve({ serial }));
  });
  listener.on("tlsClientError", (error) => seen.resolve({ refused: error.message }));
  const { port } = listener.address() as AddressInfo;
  const socket = tls.connect({
    host: "127.0.0.1",
    port,
    servername,
    maxVersion,
    ca: await Deno.readTextFile(clientCa.crt),
    ...client,
  });
  // The client's view of a wrong server certificate.
  socket.on("error", (error) => seen.resolve({ refused: error.message }));
  socket.resume();
  try {
    return await seen.promise;
  } finally {
    socket.destroy();
    listener.close();
    await once(listener, "close");
  }
}

async function fromPfx(client: MadeClient, passphrase = "password"): Promise<tls.SecureContextOptions> {
  const pfx = Buffer.from(await Deno.readFile(client.pfx));
  // Read here too, so that a wrong password fails here.
  tls.createSecureContext({ pfx, passphrase });
  return { pfx, passphrase };
}

async function fromPem(client: MadeClient): Promise<tls.SecureContextOptions> {
  const pem = await Deno.readTextFile(client.pem);
  return { cert: pem, key: pem };
}

for (const key_type of ["P-256", "P-384"] as const) {
  for (const maxVersion of ["TLSv1.2", "TLSv1.3"] as const) {
    Deno.test(`a client with its pfx or pem is let in (${key_type}, ${maxVersion})`, async () => {
      await using out = await makeTempDir();
      const { kmes } = await makeNetwork({ ...twoKmes(), key_type }, out.path);
      const [alice, bob] = [kmes.get("1")!, kmes.get("2")!];
      for (const servername of ["localhost", ""]) {
        const sae = alice.saes.get("1")!;
        for (const client of [await fromPfx(sae), await fromPem(sae)]) {
          const seen = await handshake(alice.saesServer, alice.saesCa, client, servername, maxVersion);
          assert.deepEqual(seen, { serial: sae.serial.toHex() });
        }
        const caller = bob.callers.get("1")!;
        for (const client of [await fromPfx(caller), await fromPem(caller)]) {
          const seen = await handshake(bob.kmesServer, bob.kmesCa, client, servername, maxVersion);
          assert.deepEqual(seen, { serial: caller.serial.toHex() });
        }
      }
    });
  }
}

Deno.test("a certificate of another CA, of a server, or none is refused", async () => {
  await using out = await makeTempDir();
  const { kmes } = await makeNetwork(twoKmes(), out.path);
  const [alice, bob] = [kmes.get("1")!, kmes.get("2")!];
  const strangers: [string, tls.SecureContextOptions][] = [
    ["SAE of another KME", await fromPem(bob.saes.get("3")!)],
    ["KME at the SAEs' listener", await fromPem(alice.callers.get("2")!)],
    ["server as a client", {
      cert: await Deno.readTextFile(alice.saesServer.crt),
      key: await Deno.readTextFile(alice.saesServer.key),
    }],
    ["none", {}],
  ];
  for (const [what, client] of strangers) {
    const { refused } = await handshake(alice.saesServer, alice.saesCa, client, "localhost");
    assert.ok(refused !== undefined, what);
  }
});

Deno.test("a client refuses a server of another name or CA", async () => {
  await using out = await makeTempDir();
  const network = twoKmes();
  network.kmes[0]!.saes_interface.hosts = ["kme1.example"];
  const { kmes } = await makeNetwork(network, out.path);
  const alice = kmes.get("1")!;
  const client = await fromPem(alice.saes.get("1")!);
  assert.ok((await handshake(alice.saesServer, alice.saesCa, client, "kme1.example")).serial);
  assert.match((await handshake(alice.saesServer, alice.saesCa, client, "localhost")).refused!, /name/i);
  const wrong = { ...client, ca: await Deno.readTextFile(alice.kmesCa.crt) };
  assert.ok((await handshake(alice.saesServer, alice.saesCa, wrong, "kme1.example")).refused);
});

Deno.test("the password of a pfx is the network's", async () => {
  await using out = await makeTempDir();
  for (const password of ["pässword € 密", ""]) {
    const { kmes } = await makeNetwork(
      { ...twoKmes(), pfx_password: password },
      `${out.path}/${password.length}`,
    );
    const client = kmes.get("1")!.saes.get("1")!;
    await fromPfx(client, password);
    await assert.rejects(fromPfx(client, `${password}x`), /mac verify failure|password/i);
  }
});
