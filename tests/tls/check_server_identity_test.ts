/** The verification of servers as an option for libraries that open TLS connections themselves, such as `pg`. */
import assert from "node:assert/strict";
import type { AddressInfo } from "node:net";
import { connect, createServer } from "node:tls";
import { checkServerIdentity } from "../../src/tls/peer_certificates.ts";
import { certificatesInPem } from "../../src/x509/certificate.ts";
import { ServerVerifier } from "../../src/x509/verifier.ts";
import {
  altNames,
  basicConstraints,
  dns,
  forge,
  issuerOf,
  type Parts,
  SERVER,
  usage,
} from "../x509/forge.ts";
import { ca } from "./front_harness.ts";

const genuine = [basicConstraints(false), usage(SERVER), altNames(dns("localhost"))];

/** Why a client refuses this server. */
async function refusal(parts: Parts): Promise<string | undefined> {
  const server = createServer(forge(parts).pem, (socket) => socket.on("error", () => {}));
  server.on("tlsClientError", () => {});
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    return await new Promise((resolve) => {
      const socket = connect({
        host: "127.0.0.1",
        port: (server.address() as AddressInfo).port,
        servername: "localhost",
        ca: ca.cert,
        checkServerIdentity: checkServerIdentity(new ServerVerifier(certificatesInPem(ca.cert))),
      });
      socket.on("secureConnect", () => {
        socket.destroy();
        resolve(undefined);
      });
      socket.on("error", (error) => resolve(error.message));
    });
  } finally {
    server.close();
  }
}

Deno.test("a genuine server is accepted, one of version 1 or of another name is not", async () => {
  const issuer = issuerOf(ca);
  const anyone = { ...issuer, key: forge().key };
  assert.equal(await refusal({ issuer, extensions: genuine }), undefined);
  assert.match(await refusal({ issuer: anyone, version: null, extensions: null }) ?? "", /version 1/);
  const elsewhere = [...genuine.slice(0, 2), altNames(dns("elsewhere.example"))];
  assert.match(await refusal({ issuer, extensions: elsewhere }) ?? "", /is not for localhost/);
});
