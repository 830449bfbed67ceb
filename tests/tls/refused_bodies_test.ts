/** Bodies that a running KME refuses cost it no memory. */
import assert from "node:assert/strict";
import { makeTestNetwork } from "../harness/test_network.ts";
import { connect } from "node:tls";

const MEBIBYTE = 2 ** 20;

async function residentBytes(pid: number): Promise<number> {
  const status = await Deno.readTextFile(`/proc/${pid}/status`);
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)![1]) * 1024;
}

Deno.test({
  name: "a hundred bodies of 200 MB that are refused leave memory as it was",
  ignore: Deno.build.os !== "linux",
  fn: async () => {
    await using network = await makeTestNetwork({ kmes: [{ id: 1, saes: [1, 2] }] });
    await using kme = await network.start(1);
    const { saesPort, zoneCa } = network.kme(1);
    const { cert, key } = network.sae(1);
    const chunk = new Uint8Array(MEBIBYTE / 4);

    const post = () =>
      new Promise<string>((resolve) => {
        const socket = connect({ port: saesPort, host: "127.0.0.1", ca: zoneCa.ca, cert, key });
        let text = "";
        let sent = 0;
        const pump = () => {
          while (sent < 200_000_000 && !socket.destroyed) {
            sent += chunk.length;
            if (!socket.write(chunk)) return void socket.once("drain", pump);
          }
        };
        socket.setEncoding("utf8").on("data", (data) => text += data);
        socket.on("error", () => {});
        socket.on("close", () => resolve(text));
        socket.on("secureConnect", () => {
          socket.write(
            "POST /api/v1/keys/2/enc_keys HTTP/1.1\r\nHost: kme\r\nContent-Type: application/json\r\n" +
              "Content-Length: 200000000\r\n\r\n",
          );
          pump();
        });
      });
    const many = async (count: number) => {
      for (let i = 0; i < count; i += 20) {
        for (const text of await Promise.all(Array.from({ length: 20 }, post))) {
          assert.match(text, /^HTTP\/1\.1 413 /);
        }
      }
    };

    await many(40);
    const before = await residentBytes(kme.pid);
    await many(100);
    const after = await residentBytes(kme.pid);
    assert.ok(after - before < 64 * MEBIBYTE, `${before / MEBIBYTE} to ${after / MEBIBYTE} MiB`);
  },
});
