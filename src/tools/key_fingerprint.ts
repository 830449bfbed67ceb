/** How keys are compared by people. */
import { createHash } from "node:crypto";

/** First 16 hex digits of the SHA-256 of a key: tells whether two keys agree, without showing them. */
export function keyFingerprint(bits: Uint8Array): string {
  return createHash("sha256").update(bits).digest("hex").slice(0, 16);
}
