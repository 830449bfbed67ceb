/** Answers with keys that are kept, to be examined after the measurement. */
import { Buffer } from "node:buffer";
import { keyIdsIn } from "./http_answer.ts";

export class LoadAnswers {
  readonly #parts: Buffer[] = [];
  #used = 0;
  #expected = 0;

  /** @param keys that the answer has to hold. */
  add(body: Buffer, keys: number): void {
    let last = this.#parts.at(-1);
    if (last === undefined || last.length - this.#used < body.length) {
      last = Buffer.alloc(Math.max(1 << 22, body.length));
      this.#parts.push(last);
      this.#used = 0;
    }
    last.set(body, this.#used);
    this.#used += body.length;
    this.#expected += keys;
  }

  /** @returns the number of keys. */
  check(fail: (why: string) => void): number {
    const seen = new Set<string>();
    let keys = 0;
    for (const part of this.#parts) {
      for (const keyId of keyIdsIn(part)) {
        keys++;
        if (seen.has(keyId)) fail(`key ${keyId} came twice`);
        seen.add(keyId);
      }
    }
    if (keys !== this.#expected) fail(`${keys} keys instead of ${this.#expected}`);
    return keys;
  }
}
