/**
 * Health tests of key material: whether the bytes of a key file could come from a random source at all, after NIST SP
 * 800-90B, section 4.4, with a claimed entropy of 8 bits per byte. They find material that is constant, stuck or repeated;
 * no test can show that material is secret.
 *
 * False positives: a file of random bytes fails with a probability below 2^-40. Each of the first two tests gets a budget of
 * 2^-42 for the whole file, by a union bound over its positions or windows; the third adds less than 2^-80.
 */
import { BLOCK_BYTES } from "../domain/block.ts";

/** log2 of the false-positive budget of one test for a whole file. */
const BUDGET_LOG2 = -42;

/** Samples in a window of the adaptive proportion test (section 4.4.2, not binary). */
const WINDOW = 512;

/** log2 of the probability that a random byte has a given value. */
const BYTE_LOG2 = -8;

/** Blocks among which repeated ones are found: of 64 MiB. More would take memory without bound. */
const REPEAT_WINDOW = 2 ** 21;

/** Steps in the table of blocks; more do not happen with random ones. */
const MAX_PROBES = 4096;

/**
 * Cutoff of the repetition count test (section 4.4.1): so many equal bytes in a row do not happen.
 *
 * @param length bytes of the file.
 */
export function repetitionCutoff(length: number): number {
  // A run of C bytes that begins at a given position has probability 2^(-8(C-1)).
  return 1 + Math.ceil((Math.log2(Math.max(length, 1)) - BUDGET_LOG2) / -BYTE_LOG2);
}

/**
 * Cutoff of the adaptive proportion test: so many occurrences of a window's first byte in it do not happen.
 *
 * @param window bytes in the window, at least 1.
 * @param windows number of windows of the file.
 */
export function proportionCutoff(window: number, windows: number): number {
  const limit = 2 ** (BUDGET_LOG2 - Math.log2(Math.max(windows, 1)));
  // The other bytes of the window equal the first one by a binomial distribution; its upper tail is summed from the far end.
  const p = 2 ** BYTE_LOG2;
  const n = window - 1;
  const terms: number[] = [];
  let logTerm = n * Math.log1p(-p);
  for (let k = 0; k <= n; k++) {
    terms.push(Math.exp(logTerm));
    logTerm += Math.log((n - k) / (k + 1)) + Math.log(p / (1 - p));
  }
  let tail = 0;
  for (let k = n; k >= 0; k--) {
    tail += terms[k]!;
    // k + 1 others and the first byte itself.
    if (tail > limit) return k + 2;
  }
  return 1;
}

export class KeyHealth {
  readonly #length: number;
  readonly #repetitionCutoff: number;
  readonly #proportionCutoff: number;
  readonly #repeats: RepeatedBlocks;
  #problem?: string;
  #position = 0;
  /** Of the repetition count test. */
  #last = -1;
  #run = 0;
  /** Of the adaptive proportion test. */
  #first = 0;
  #seen = 0;
  #count = 0;

  /** @param length bytes of the file's whole blocks. */
  constructor(length: number) {
    this.#length = length;
    this.#repetitionCutoff = repetitionCutoff(length);
    this.#proportionCutoff = proportionCutoff(WINDOW, Math.ceil(length / WINDOW));
    this.#repeats = new RepeatedBlocks(Math.min(length / BLOCK_BYTES, REPEAT_WINDOW));
  }

  /** Why the bytes so far do not look random; says nothing of their values. */
  get problem(): string | undefined {
    return this.#problem ?? this.#endOfFileProblem();
  }

  /** The next bytes of the file: whole blocks. */
  update(bytes: Uint8Array): void {
    if (this.#problem !== undefined) return;
    for (let i = 0; i < bytes.length; i++) {
      const byte = bytes[i]!;
      if (byte === this.#last) {
        if (++this.#run >= this.#repetitionCutoff) return this.#fail("repetition count", i);
      } else {
        this.#last = byte;
        this.#run = 1;
      }
      if (this.#seen === 0) {
        this.#first = byte;
        this.#seen = this.#count = 1;
      } else {
        this.#seen++;
        if (byte === this.#first && ++this.#count >= this.#proportionCutoff) {
          return this.#fail("adaptive proportion", i);
        }
        if (this.#seen === WINDOW) this.#seen = 0;
      }
    }
    for (let at = 0; at < bytes.length; at += BLOCK_BYTES) {
      if (!this.#repeats.add(bytes, at)) {
        this.#problem = `a block is there twice, the second time at byte ${this.#position + at}`;
        return;
      }
    }
    this.#position += bytes.length;
  }

  #fail(test: string, at: number): void {
    this.#problem = `the ${test} test of NIST SP 800-90B fails at byte ${this.#position + at}`;
  }

  /** The last window may be shorter: its bytes are held to the cutoff of its own length. */
  #endOfFileProblem(): string | undefined {
    if (this.#position < this.#length || this.#seen === 0) return undefined;
    const cutoff = proportionCutoff(this.#seen, Math.ceil(this.#length / WINDOW));
    if (this.#count < cutoff) return undefined;
    return `the adaptive proportion test of NIST SP 800-90B fails at byte ${this.#length - 1}`;
  }
}

/** Finds a block that is there twice, by its first 16 bytes: two random blocks agree in them with probability 2^-128. */
class RepeatedBlocks {
  readonly #capacity: number;
  readonly #mask: number;
  /** Four words for each block. */
  readonly #words: Uint32Array;
  /** Places in `words`, plus 1; 0: free. */
  readonly #slots: Int32Array;
  #count = 0;

  constructor(capacity: number) {
    this.#capacity = Math.max(1, capacity);
    const slots = 2 ** Math.ceil(Math.log2(2 * this.#capacity));
    this.#mask = slots - 1;
    this.#words = new Uint32Array(4 * this.#capacity);
    this.#slots = new Int32Array(slots);
  }

  /** @returns false when the block at this offset was added before. */
  add(bytes: Uint8Array, offset: number): boolean {
    if (this.#count === this.#capacity) {
      this.#slots.fill(0);
      this.#count = 0;
    }
    const at = 4 * this.#count;
    for (let i = 0; i < 4; i++) {
      const b = offset + 4 * i;
      this.#words[at + i] = bytes[b]! | bytes[b + 1]! << 8 | bytes[b + 2]! << 16 | bytes[b + 3]! << 24;
    }
    let slot = (this.#words[at]! ^ Math.imul(this.#words[at + 1]!, 0x9e3779b1)) & this.#mask;
    for (let probes = 0; probes < MAX_PROBES; probes++) {
      const place = this.#slots[slot]!;
      if (place === 0) {
        this.#slots[slot] = ++this.#count;
        return true;
      }
      if (this.#same(4 * (place - 1), at)) return false;
      slot = (slot + 1) & this.#mask;
    }
    return false;
  }

  #same(a: number, b: number): boolean {
    const words = this.#words;
    return words[a] === words[b] && words[a + 1] === words[b + 1] && words[a + 2] === words[b + 2] &&
      words[a + 3] === words[b + 3];
  }
}
