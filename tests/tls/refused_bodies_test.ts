/** Refused bodies do not increase the memory of a running KME. */
import assert from "node:assert/strict";
import { makeTestNetwork } from "../harness/test_network.ts";
import { postLargeBody } from "../harness/large_body.ts";
import { residentBytes } from "../harness/process_files.ts";

const MEBIBYTE = 2 ** 20;

Deno.test({
  name: "a hundred bodies of 200 MB that are refused leave memory as it was",
  ignore: Deno.build.os !== "linux",
  fn: async () => {
    await using network = await makeTestNetwork({ kmes: [{ id: 1, saes: [1, 2] }] });
    await using kme = await network.start(1);
    const { saesPort, zoneCa } = network.kme(1);
    const { cert, key } = network.sae(1);
    const post = () => postLargeBody({ port: saesPort, ca: zoneCa.ca, cert, key }, 2, 200_000_000);
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
