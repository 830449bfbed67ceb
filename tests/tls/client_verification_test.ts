/** Who gets in: the client's certificate against the listener's own CAs. */
import assert from "node:assert/strict";
import { createPrivateKey } from "node:crypto";
import { createServer, type TLSSocket } from "node:tls";
import type { AddressInfo } from "node:net";
import "reflect-metadata";
import * as x509 from "@peculiar/x509";
import { startFront } from "../../src/tls/front.ts";
import { authority, client, issue, server } from "./authority.ts";
import {
  alice,
  bob,
  ca,
  get,
  otherCa,
  resumingClient,
  secure,
  serverCertificate,
  whoAmI,
  withFront,
} from "./front_harness.ts";

const VERSIONS = ["TLSv1.2", "TLSv1.3"] as const;
const DAY = 86_400_000;

for (const maxVersion of VERSIONS) {
  Deno.test(`${maxVersion}: each client is known by its certificate`, () =>
    withFront({ maxVersion }, async (_front, port) => {
      assert.equal(await get(port, alice), "a11ce");
      assert.equal(await get(port, bob), "b0b");
    }));

  Deno.test(`${maxVersion}: the platform resumes a session under another listener's CA`, async () => {
    const seen: { reused: boolean; authorized: boolean }[] = [];
    const server = createServer({
      ca: otherCa.cert,
      cert: serverCertificate.cert,
      key: serverCertificate.key,
      requestCert: true,
      rejectUnauthorized: true,
      maxVersion,
    }, (socket: TLSSocket) => {
      seen.push({ reused: socket.isSessionReused(), authorized: socket.authorized });
      socket.on("error", () => {});
      socket.once(
        "data",
        () => socket.end("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
      );
    });
    server.on("tlsClientError", () => {});
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const port = (server.address() as AddressInfo).port;
    try {
      await withFront({ maxVersion }, async (_front, own) => {
        using resuming = resumingClient(alice);
        assert.equal(await resuming.get(port), undefined, "a full handshake is refused");
        assert.equal(await resuming.get(own), "a11ce");
        await resuming.get(port);
        assert.deepEqual(seen, [{ reused: true, authorized: true }], "why the front verifies for itself");
      });
    } finally {
      server.close();
    }
  });

  Deno.test(`${maxVersion}: a session of another listener opens nothing`, () =>
    withFront(
      { maxVersion },
      (_a, portA) =>
        withFront({ maxVersion, clientCa: otherCa.cert }, async (_b, portB) => {
          using resuming = resumingClient(alice);
          assert.equal(await resuming.get(portA), "a11ce");
          assert.equal(await resuming.get(portB), undefined);
          assert.equal(await resuming.get(portA), "a11ce", "on its own listener it may be resumed");
        }),
    ));

  Deno.test(`${maxVersion}: a session is not resumed after the certificate has expired`, async () => {
    let now = Date.now();
    await withFront({ maxVersion, date: () => now }, async (_front, port) => {
      using resuming = resumingClient(alice);
      assert.equal(await resuming.get(port), "a11ce");
      now += 2 * DAY;
      assert.equal(await resuming.get(port), undefined);
    });
  });

  Deno.test(`${maxVersion}: no certificate, or not of this CA`, async () => {
    const forged = await authority("CA A");
    const past = { notBefore: new Date(Date.now() - 3 * DAY), notAfter: new Date(Date.now() - 2 * DAY) };
    const refused = {
      "no certificate": undefined,
      "of another CA": await client(otherCa),
      "of a CA with the same name": await client(forged),
      "self-signed": await issue(undefined, { name: "alice" }),
      "self-signed with the CA's name": await issue(undefined, { name: "CA A" }),
      expired: await client(ca, past),
      "not yet valid": await client(ca, { notBefore: new Date(Date.now() + DAY / 2) }),
      "a server's": await client(ca, { usages: [x509.ExtendedKeyUsage.serverAuth] }),
      "issued by a client": await client(alice),
      "a CA's": await client(ca, { isCa: true }),
      "the CA's own": ca,
    };
    await withFront({ maxVersion }, async (front, port) => {
      for (const [what, certificate] of Object.entries(refused)) {
        assert.equal(await get(port, certificate), undefined, what);
      }
      assert.equal(front.mappedPorts, 0);
      assert.equal(await get(port, alice), "a11ce");
    });
  });
}

Deno.test("with a CA that has expired or is not a CA, every client is refused", async () => {
  const past = { notBefore: new Date(Date.now() - 3 * DAY), notAfter: new Date(Date.now() - 2 * DAY) };
  const expired = await authority("expired CA", past);
  const notCa = await issue(undefined, { name: "no CA" });
  await withFront({ clientCa: `${expired.cert}\n${notCa.cert}` }, async (_front, port) => {
    assert.equal(await get(port, await client(expired)), undefined);
    assert.equal(await get(port, await client(notCa)), undefined);
  });
});

Deno.test("several CAs, and intermediates from the file or from the client", async () => {
  const intermediate = await issue(ca, { name: "intermediate", isCa: true, pathLength: 0 });
  const below = await issue(intermediate, { name: "one too deep", isCa: true });
  const leaf = await client(intermediate, { serial: "1234" });
  const tooDeep = await client(below);
  const withChain = { ...leaf, cert: leaf.cert + "\n" + intermediate.cert };
  await withFront({ clientCa: `${otherCa.cert}\n${ca.cert}` }, async (_front, port) => {
    assert.equal(await get(port, await client(otherCa, { serial: "77" })), "77");
    assert.equal(await get(port, leaf), undefined, "without its intermediate");
    assert.equal(await get(port, withChain), "1234");
    const deep = { ...tooDeep, cert: [tooDeep.cert, below.cert, intermediate.cert].join("\n") };
    assert.equal(await get(port, deep), undefined, "beyond the path length");
  });
  await withFront({ clientCa: intermediate.cert }, async (_front, port) => {
    assert.equal(await get(port, leaf), "1234");
    assert.equal(await get(port, alice), undefined, "of the root, which is not in the file");
  });
});

Deno.test("serials with zeros in front and with the top bit set", () =>
  withFront({}, async (_front, port) => {
    for (
      const [octets, serial] of [["00f0112233", "f0112233"], ["0001", "1"], ["7f", "7f"], ["00ff00", "ff00"]]
    ) {
      assert.equal(await get(port, await client(ca, { serial: octets })), serial);
    }
  }));

Deno.test("server keys of every curve, in PKCS#8 and SEC1", async () => {
  for (const curve of ["P-256", "P-384", "P-521"] as const) {
    const { cert, key } = await server(ca, { curve });
    const sec1 = createPrivateKey(key).export({ type: "sec1", format: "pem" }).toString();
    for (const serverKey of [key, sec1]) {
      await withFront({ serverCert: cert, serverKey }, async (_front, port) => {
        assert.equal(await get(port, alice), "a11ce", curve);
      });
    }
  }
});

Deno.test("keys of other curves", async () => {
  for (const curve of ["P-384", "P-521"] as const) {
    const strong = await authority("strong CA", { curve });
    await withFront({ clientCa: strong.cert }, async (_front, port) => {
      assert.equal(await get(port, await client(strong, { serial: "5", curve: "P-384" })), "5", curve);
    });
  }
});

Deno.test("reload: new connections are verified with the new CA", () =>
  withFront({ handler: whoAmI }, async (front, port) => {
    const eve = await client(otherCa, { serial: "5" });
    using resuming = resumingClient(alice);
    assert.equal(await resuming.get(port), "a11ce");
    const open = await secure(port, alice);
    open.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    await open.expect(/a11ce/);
    assert.throws(() =>
      front.reload({ clientCa: "", serverCert: serverCertificate.cert, serverKey: serverCertificate.key })
    );
    assert.throws(() =>
      front.reload({ clientCa: ca.cert, serverCert: serverCertificate.cert, serverKey: alice.key })
    );
    assert.equal(await get(port, alice), "a11ce", "what does not serve changes nothing");
    front.reload({
      clientCa: otherCa.cert,
      serverCert: serverCertificate.cert,
      serverKey: serverCertificate.key,
    });
    assert.equal(await get(port, eve), "5");
    assert.equal(await get(port, alice), undefined);
    assert.equal(await resuming.get(port), undefined, "not by a session either");
    await open.whenClosed;
  }));

Deno.test("a listener that cannot be opened says so", () =>
  withFront({}, async (_front, port) => {
    const material = {
      clientCa: ca.cert,
      serverCert: serverCertificate.cert,
      serverKey: serverCertificate.key,
    };
    const listen = { hostname: "127.0.0.1", port };
    await assert.rejects(
      startFront({ name: "second", listen, ...material, handler: whoAmI }),
      (error: Error) => error.message.startsWith(`second: cannot listen on 127.0.0.1:${port}: `),
    );
    await assert.rejects(
      startFront({ name: "second", listen, ...material, serverKey: alice.key, handler: whoAmI }),
      /second: the server's certificate does not belong to its key/,
    );
    await assert.rejects(
      startFront({ name: "second", listen, ...material, clientCa: alice.cert, handler: whoAmI }),
      /second: no CA certificate for clients, only CN=alice \(for tests\), which is not a CA/,
    );
  }));
