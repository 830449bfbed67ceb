/** The key_ID of a stored block. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { blockKeyId, formatKeyId } from "../../src/domain/block.ts";

/** The derivation as the interface's description has it, by another implementation of SHA-1. */
function described(bits: Uint8Array): string {
  const h = createHash("sha1").update(bits).digest().subarray(0, 16);
  h[6] = (h[6]! & 0x0f) | 0x50;
  h[8] = (h[8]! & 0x3f) | 0x80;
  const group = (...at: number[]) => at.map((i) => h.subarray(i, i + 1).toString("hex")).join("");
  return [group(3, 2, 1, 0), group(5, 4), group(7, 6), group(8, 9), group(10, 11, 12, 13, 14, 15)].join("-");
}

Deno.test("key_IDs are those of qkd_kme_server", () => {
  const text = (value: string) => new TextEncoder().encode(value);
  const vectors: [Uint8Array, string][] = [
    [text("this_is_secret_key_1_of_32_bytes"), "8844cba7-29e1-3251-a50a-25da13e65eea"],
    [new Uint8Array(32), "7b848ade-8cff-3d54-a9b8-53a215e6ee77"],
    [
      Uint8Array.fromBase64("zNK/zOIUDAFyuKRM0dSJLLZVYaDTuhzhAIACBgWABfY="),
      "9768257a-1c59-d255-a93d-d4bb1b693651",
    ],
  ];
  // Twice: nothing is left of the block before.
  for (const [bits, id] of [...vectors, ...vectors]) assert.equal(formatKeyId(blockKeyId(bits)), id);
});

Deno.test("key_IDs of blocks are the documented digest, and unique", () => {
  const file = randomBytes(32 * 1000);
  const blocks = Array.from({ length: 1000 }, (_, i) => file.subarray(32 * i, 32 * i + 32));
  const before = file.toString("hex");
  const ids = blocks.map(blockKeyId);
  ids.forEach((id, i) =>
    assert.ok(formatKeyId(id) === described(blocks[i]!), `block ${i} has another key_ID`)
  );
  assert.ok(file.toString("hex") === before, "the blocks were changed");
});
