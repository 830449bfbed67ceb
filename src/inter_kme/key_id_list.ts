/** Lists of key_IDs in messages: their bytes one after the other, in base64. */
import { Buffer } from "node:buffer";
import { z } from "zod";
import type { KeyIdBytes } from "../domain/block.ts";

/** Bytes of a key_ID. */
export const ID_BYTES = 16;

/** Parses a list. @param text with a limit of its length, where there is one. */
export function keyIdList(text: z.ZodBase64) {
  return text.transform((text, context): KeyIdBytes[] => {
    const bytes = Uint8Array.from(Buffer.from(text, "base64"));
    if (bytes.length % ID_BYTES !== 0) {
      context.issues.push({ code: "custom", message: "no whole key_IDs", input: text });
      return z.NEVER;
    }
    return Array.from(
      { length: bytes.length / ID_BYTES },
      (_, i) => bytes.slice(i * ID_BYTES, (i + 1) * ID_BYTES),
    );
  });
}

/** The opposite of {@linkcode keyIdList}. */
export function formatKeyIdList(ids: readonly KeyIdBytes[]): string {
  return Buffer.concat(ids).toString("base64");
}
