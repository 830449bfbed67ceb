/** arnika, which gets the pre-shared keys of WireGuard from KMEs, as a client of two of them. */
import assert from "node:assert/strict";
import { createServer } from "node:net";
import { startChild } from "../harness/child_process.ts";
import { eventually } from "../harness/eventually.ts";
import { freePorts } from "../harness/free_port.ts";
import { findProgram, testIfInstalled } from "../harness/installed.ts";
import { PROJECT_ROOT } from "../harness/kme_process.ts";
import { startNetwork } from "./api_fixture.ts";

/** Where WireGuard implementations outside of the kernel have their sockets; only root can make it. */
const SOCKETS = "/var/run/wireguard";

/** arnika, where the test can also stand in for WireGuard. */
const arnika = Deno.build.os === "linux" && Deno.uid() === 0
  ? findProgram(`${PROJECT_ROOT}tmp/go/bin/arnika`, "/usr/local/bin/arnika", "/usr/bin/arnika")
  : undefined;

/** A WireGuard interface with one peer, as arnika sees it: it answers, and keeps the pre-shared keys. */
async function openInterface(name: string) {
  const peerKey = crypto.getRandomValues(new Uint8Array(32));
  const pskHex = new Set<string>();
  const server = createServer((connection) => {
    let text = "";
    connection.on("error", () => connection.destroy());
    connection.on("data", (chunk) => {
      text += chunk;
      if (!text.endsWith("\n\n")) return;
      const psk = /^preshared_key=([0-9a-f]{64})$/m.exec(text)?.[1];
      if (psk !== undefined) pskHex.add(psk);
      const state = text.startsWith("get=1\n") ? `public_key=${peerKey.toHex()}\n` : "";
      connection.end(`${state}errno=0\n\n`);
    });
  });
  await Deno.mkdir(SOCKETS, { recursive: true });
  const path = `${SOCKETS}/${name}.sock`;
  await new Promise<void>((resolve, reject) => server.once("error", reject).listen(path, resolve));
  return {
    name,
    peer: peerKey.toBase64(),
    pskHex,
    [Symbol.asyncDispose]: () => new Promise<void>((resolve) => server.close(() => resolve())),
  };
}

testIfInstalled(
  arnika,
  "not root on Linux, or no arnika in tmp/go/bin or on the PATH",
  "two arnikas give WireGuard the same key of their two KMEs at both ends",
  async (program) => {
    const blocks = crypto.getRandomValues(new Uint8Array(32 * 100));
    await using network = await startNetwork(
      { kmes: [{ id: 1, saes: ["CONSA"] }, { id: 2, saes: ["CONSB"] }] },
      [1, 2, blocks],
    );
    const suffix = crypto.randomUUID().slice(0, 8);
    await using a = await openInterface(`kme-a${suffix}`);
    await using b = await openInterface(`kme-b${suffix}`);
    // Of two ids that differ in the last bit one gets the key in each interval, and sends its key_ID to the other.
    const [even, odd] = freePorts(2) as [number, number];
    const start = async (sae: string, slave: string, id: number, ports: number[], wireguard: typeof a) => {
      const { cert, key, ca, kmeId } = network.sae(sae);
      const files = { CERTIFICATE: cert, PRIVATE_KEY: key, CA_CERTIFICATE: ca };
      const env: Record<string, string> = {};
      for (const [name, text] of Object.entries(files)) {
        env[name] = `${network.directory}/${sae}-${name}.pem`;
        await Deno.writeTextFile(env[name], text, { mode: 0o600 });
      }
      return startChild(program, {
        args: [],
        env: {
          ...env,
          ARNIKA_ID: String(id),
          ARNIKA_PSK: "only for this test",
          LISTEN_ADDRESS: `127.0.0.1:${ports[0]}`,
          SERVER_ADDRESS: `127.0.0.1:${ports[1]}`,
          KMS_URL: `https://localhost:${network.kme(kmeId).saesPort}/api/v1/keys/${slave}`,
          INTERVAL: "3s",
          WIREGUARD_INTERFACE: wireguard.name,
          WIREGUARD_PEER_PUBLIC_KEY: wireguard.peer,
        },
      });
    };
    const children = [
      await start("CONSA", "CONSB", 2, [even, odd], a),
      await start("CONSB", "CONSA", 3, [odd, even], b),
    ];
    try {
      const shared = await eventually(() => {
        const both = a.pskHex.intersection(b.pskHex);
        return both.size >= 3 && both;
      }, { timeout: 60_000, what: "keys at both ends" });
      const hex = blocks.toHex();
      for (const psk of shared) assert.ok(hex.indexOf(psk) % 64 === 0, "a key that the KMEs did not have");
    } finally {
      await Promise.all(children.map((child) => child.end("SIGKILL")));
    }
  },
);
