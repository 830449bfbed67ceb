/** What bodies of the largest legal size cost: one SAE that sends many of them must not keep others waiting. */
import assert from "node:assert/strict";
import { processorMilliseconds } from "../harness/process_files.ts";
import { makeTestNetwork } from "../harness/test_network.ts";

const BYTES = 65_536;
const BODIES = 60;

/** Most processor milliseconds of a body: thirty a second of more would take a whole processor. */
const MOST_MS = 30;

/** As many of an element as fit between two texts. */
function filled(before: string, element: string, after: string): string {
  const count = Math.floor((BYTES - before.length - after.length) / (element.length + 1));
  return before + Array(count).fill(element).join(",") + after;
}

const SHAPES: Record<string, ["enc_keys" | "dec_keys", string]> = {
  "key IDs that are empty": ["dec_keys", filled('{"key_IDs":[', "{}", "]}")],
  "key IDs": ["dec_keys", filled('{"key_IDs":[', '{"key_ID":"3b6d6ad6-5c5c-4b8e-8a0e-0d8ff6b1a0c1"}', "]}")],
  "additional slaves": ["enc_keys", filled('{"additional_slave_SAE_IDs":[', '"2"', "]}")],
  "extensions": ["enc_keys", filled('{"extension_mandatory":[', "{}", "]}")],
  "deep nesting": ["enc_keys", '{"a":' + "[".repeat(30_000) + "]".repeat(30_000) + "}"],
  "numbers": ["enc_keys", filled('{"a":[', "1", "]}")],
  "one long text": ["enc_keys", `{"a":"${"\\n".repeat(32_000)}"}`],
};

Deno.test({
  name: "a body of 64 KiB takes a few milliseconds, whatever is in it",
  ignore: Deno.build.os !== "linux",
  fn: async () => {
    await using network = await makeTestNetwork({ kmes: [{ id: 1, saes: [1, 2] }] });
    await using kme = await network.start(1, { env: { LOG_LEVEL: "info,http=error,event=error" } });
    const client = network.client(1);
    for (const [name, [call, body]] of Object.entries(SHAPES)) {
      assert.ok(body.length <= BYTES && body.length > 0.9 * BYTES, name);
      const send = (count: number) =>
        Promise.all(Array.from({ length: count }, async () => {
          const headers = { "Content-Type": "application/json" };
          const { status } = await client.raw({
            method: "POST",
            path: `/api/v1/keys/2/${call}`,
            headers,
            body,
          });
          assert.ok(status >= 400 && status < 500 || status === 503, `${name}: ${status}`);
        }));
      await send(5); // with the code compiled
      const before = await processorMilliseconds(kme.pid);
      for (let i = 0; i < BODIES; i += 10) await send(10);
      const each = (await processorMilliseconds(kme.pid) - before) / BODIES;
      assert.ok(each < MOST_MS, `${name}: ${each} ms of a processor for a body`);
    }
  },
});
