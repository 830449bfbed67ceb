/** The front of docs/skip.md that adds TLS with a pre-shared key, with stunnel and OpenSSL's client. */
import assert from "node:assert/strict";
import { findProgram, runChild, startChild, underWatch } from "../harness/child_process.ts";
import { shellBlocks } from "../harness/document_commands.ts";
import { eventually } from "../harness/eventually.ts";
import { testWith } from "../harness/installed.ts";
import { freePorts } from "../harness/free_port.ts";
import { startNetwork } from "../sae_api/api_fixture.ts";
import { SkipClient, type SkipKey, twoSkipKmes } from "./skip_fixture.ts";

const stunnel = findProgram("stunnel4", ["/usr/bin"]) ?? findProgram("stunnel", ["/usr/bin"]);
const openssl = findProgram("openssl");
const document = await Deno.readTextFile(new URL("../../docs/skip.md", import.meta.url));

const PSK = "7465737473206f6e6c79".repeat(3);
const OTHER_PSK = "6f74686572206b6579".repeat(3);

testWith(
  openssl === undefined ? undefined : stunnel,
  "no stunnel4 or openssl",
  "a router with a pre-shared key gets keys over the stunnel front of docs/skip.md",
  async (stunnel) => {
    await using network = await startNetwork(twoSkipKmes, [1, 2, 10]);
    const directory = `${network.directory}/stunnel`;
    await Deno.mkdir(directory, { mode: 0o700 });
    const [port] = freePorts(1) as [number];
    const { skipPort, zoneCa } = network.kme(1);
    const { cert, key } = network.sae(1);
    const secret = { mode: 0o600 };
    await Deno.writeTextFile(`${directory}/client_1.crt`, cert);
    await Deno.writeTextFile(`${directory}/client_1.key`, key, secret);
    await Deno.writeTextFile(`${directory}/kme_ca.crt`, zoneCa.ca);
    await Deno.writeTextFile(`${directory}/router1.psk`, `router1:${PSK}\n`, secret);
    const documented = /```ini\n([\s\S]*?)```/.exec(document)![1]!;
    const config = documented.replaceAll("/etc/stunnel/", `${directory}/`)
      .replaceAll("/run/stunnel-router1/", `${directory}/`)
      .replace("0.0.0.0:443", `127.0.0.1:${port}`).replace("127.0.0.1:13002", `127.0.0.1:${skipPort}`);
    await Deno.writeTextFile(`${directory}/router1.conf`, `foreground = yes\npid =\n${config}`);
    // What a front that was killed leaves behind.
    await Deno.writeTextFile(`${directory}/plain.sock`, "");
    const start = shellBlocks(document)[0]!.replaceAll("/run/stunnel-router1", directory).trimEnd().split(
      "\n",
    );
    assert.match(start.pop()!, /^stunnel4 \/etc\/stunnel\/router1\.conf$/);
    assert.equal((await runChild("sh", { args: ["-euc", start.join("\n")] })).code, 0);
    const front = startChild(stunnel, { args: [`${directory}/router1.conf`] });
    try {
      await front.waitForLine(/Configuration successful/);

      const ask = async (path: string, cipher: string, identity = "router1", psk = PSK) => {
        const args = ["s_client", "-quiet", "-tls1_2", "-cipher", cipher, "-psk_identity", identity];
        const watched = underWatch(openssl!, [...args, "-psk", psk, "-connect", `127.0.0.1:${port}`]);
        const child = new Deno.Command(watched.command, {
          args: watched.args,
          stdin: "piped",
          stdout: "piped",
          stderr: "piped",
        }).spawn();
        const writer = child.stdin.getWriter();
        const request = `GET ${path} HTTP/1.1\r\nHost: kme1.example\r\nConnection: close\r\n\r\n`;
        // A refused handshake ends the client before it has read this.
        await writer.write(new TextEncoder().encode(request)).then(() => writer.close()).catch(() => {});
        const { stdout } = await child.output();
        const [head = "", body = ""] = new TextDecoder().decode(stdout).split("\r\n\r\n");
        return {
          status: /^HTTP\/1\.1 (\d+)/.exec(head)?.[1],
          json: body === "" ? undefined : JSON.parse(body),
        };
      };
      // stunnel says that its configuration is right before it listens.
      await eventually(async () => (await ask("/capabilities", "PSK-AES256-GCM-SHA384")).status === "200");

      const responder = new SkipClient(network, 3);
      const suites = ["PSK-AES256-GCM-SHA384", "PSK-AES256-CBC-SHA384", "DHE-PSK-AES256-GCM-SHA384"];
      for (const suite of suites) {
        const { json } = await ask("/capabilities", suite);
        assert.deepEqual([json.localSystemID, json.remoteSystemID], ["1", ["3", "5"]]);
        const { status, json: made } = await ask("/key?remoteSystemID=3", suite);
        assert.equal(status, "200");
        const fetched = await responder.keyById((made as SkipKey).keyId, 1);
        assert.equal(fetched.status, 200);
        assert.ok(fetched.json.key === made.key, "other key");
      }
      for (const [identity, psk] of [["router1", OTHER_PSK], ["router2", PSK]]) {
        const refused = await ask("/key?remoteSystemID=3", suites[0]!, identity, psk);
        assert.equal(refused.status, undefined);
      }
    } finally {
      await front.end("SIGTERM");
    }
  },
);
