/**
 * Reads JSON from bytes in steps: it stops at the first mistake, creates only the values that are asked for, and can be
 * interrupted. With the largest messages, `JSON.parse` and a schema would block the thread for seconds.
 */
import { Buffer } from "node:buffer";
import type { Steps } from "../domain/slices.ts";

/** Elements of an array between two points at which reading can be interrupted. */
const ELEMENTS_A_STEP = 64;

/** Maximum bytes of a member's name. */
const MAX_NAME = 64;

/** Maximum members of an object, unknown ones included: a newer version of the protocol may add some. */
const MAX_MEMBERS = 64;

/** Maximum bytes of the value of an unknown member. */
const MAX_SKIPPED = 64 * 1024;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** The message is not valid JSON, or does not have the expected members. */
export class UnreadableMessage extends Error {
  override readonly name = "UnreadableMessage";
}

/** All methods throw {@linkcode UnreadableMessage}. */
export class JsonReader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /**
   * An object, each member once.
   *
   * @param read reads the value of a member; returns false for an unknown name, whose value is then skipped.
   */
  *object(read: (name: string) => Steps | void | false): Steps {
    this.#expect(0x7b);
    const names = new Set<string>();
    if (this.#take(0x7d)) return;
    do {
      const name = this.string(MAX_NAME);
      if (names.has(name)) throw new UnreadableMessage(`member ${name} twice`);
      if (names.add(name).size > MAX_MEMBERS) throw new UnreadableMessage(`more than ${MAX_MEMBERS} members`);
      this.#expect(0x3a);
      const reading = read(name);
      if (reading === false) {
        this.#skip();
        yield;
      } else if (reading !== undefined) yield* reading;
    } while (this.#take(0x2c));
    this.#expect(0x7d);
  }

  /**
   * An array.
   *
   * @param min minimum number of elements.
   * @param max maximum number of elements; no more are read.
   * @param read reads the next element.
   */
  *array(min: number, max: number, read: () => Steps | void): Steps {
    this.#expect(0x5b);
    let count = 0;
    if (!this.#take(0x5d)) {
      do {
        if (++count > max) throw new UnreadableMessage(`more than ${max} elements`);
        const reading = read();
        if (reading !== undefined) yield* reading;
        if (count % ELEMENTS_A_STEP === 0) yield;
      } while (this.#take(0x2c));
      this.#expect(0x5d);
    }
    if (count < min) throw new UnreadableMessage(`less than ${min} elements`);
  }

  /** @param maxBytes of the encoded text. */
  string(maxBytes: number): string {
    const [start, end, isPlain] = this.#stringBounds(maxBytes);
    if (isPlain) return this.#bytes.toString("latin1", start, end);
    try {
      const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })
        .decode(this.#bytes.subarray(start - 1, end + 1));
      return JSON.parse(text);
    } catch {
      throw new UnreadableMessage("a string is malformed");
    }
  }

  /** The bytes of a UUID. */
  uuid(): Uint8Array {
    const [start, end, isPlain] = this.#stringBounds(36);
    const id = new Uint8Array(16);
    if (!isPlain || end - start !== 36) throw new UnreadableMessage("no UUID");
    let at = start;
    for (let i = 0; i < 16; i++) {
      if (i === 4 || i === 6 || i === 8 || i === 10) {
        if (this.#bytes[at++] !== 0x2d) throw new UnreadableMessage("no UUID");
      }
      const value = hexDigit(this.#bytes[at]!) << 4 | hexDigit(this.#bytes[at + 1]!);
      if (value < 0) throw new UnreadableMessage("no UUID");
      id[i] = value;
      at += 2;
    }
    return id;
  }

  /** @param maxBytes of the encoded text. */
  base64(maxBytes: number): Uint8Array {
    const [start, end, isPlain] = this.#stringBounds(maxBytes);
    try {
      if (!isPlain) throw new SyntaxError();
      return Uint8Array.fromBase64(this.#bytes.toString("latin1", start, end), {
        lastChunkHandling: "strict",
      });
    } catch {
      throw new UnreadableMessage("no base64");
    }
  }

  /** A non-negative integer of at most 9 digits. */
  integer(): number {
    this.#skipSpace();
    const start = this.#at;
    let value = 0;
    for (; this.#at - start < 10; this.#at++) {
      const digit = this.#bytes[this.#at]! - 0x30;
      if (!(digit >= 0 && digit <= 9)) break;
      value = value * 10 + digit;
    }
    const length = this.#at - start;
    if (length === 0 || length > 9 || (length > 1 && this.#bytes[start] === 0x30)) {
      throw new UnreadableMessage("no integer");
    }
    return value;
  }

  boolean(): boolean {
    this.#skipSpace();
    for (const value of [true, false]) {
      const text = String(value);
      if (this.#bytes.toString("latin1", this.#at, this.#at + text.length) !== text) continue;
      this.#at += text.length;
      return value;
    }
    throw new UnreadableMessage("no boolean");
  }

  /** Checks that only white space is left. */
  end(): void {
    this.#skipSpace();
    if (this.#at < this.#bytes.length) throw new UnreadableMessage("something follows");
  }

  /** Where the text of a string begins and ends, and whether it is ASCII without escapes. */
  #stringBounds(maxBytes: number): [start: number, end: number, isPlain: boolean] {
    this.#expect(QUOTE);
    const start = this.#at;
    let isPlain = true;
    for (let at = start; at <= start + maxBytes; at++) {
      const octet = this.#bytes[at];
      if (octet === undefined) break;
      if (octet === QUOTE) {
        this.#at = at + 1;
        return [start, at, isPlain];
      }
      if (octet === BACKSLASH) at++;
      if (octet === BACKSLASH || octet >= 0x80 || octet < 0x20) isPlain = false;
    }
    throw new UnreadableMessage("a string is too long or not ended");
  }

  /** Skips any value of at most {@linkcode MAX_SKIPPED} bytes. */
  #skip(): void {
    this.#skipSpace();
    const start = this.#at;
    const limit = Math.min(this.#bytes.length, start + MAX_SKIPPED);
    let depth = 0;
    let at = start;
    for (let inString = false; at < limit; at++) {
      const octet = this.#bytes[at]!;
      if (inString) {
        if (octet === BACKSLASH) at++;
        else if (octet === QUOTE) inString = false;
      } else if (octet === QUOTE) inString = true;
      else if (octet === 0x7b || octet === 0x5b) depth++;
      else if (octet === 0x7d || octet === 0x5d || octet === 0x2c) {
        if (depth === 0) break;
        if (octet !== 0x2c) depth--;
      }
    }
    try {
      JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(this.#bytes.subarray(start, at)));
    } catch {
      throw new UnreadableMessage("an unknown member is malformed or too long");
    }
    this.#at = at;
  }

  #expect(octet: number): void {
    if (!this.#take(octet)) throw new UnreadableMessage(`no ${String.fromCharCode(octet)}`);
  }

  /** Skips this octet if it comes next; returns whether it did. */
  #take(octet: number): boolean {
    this.#skipSpace();
    if (this.#bytes[this.#at] !== octet) return false;
    this.#at++;
    return true;
  }

  #skipSpace(): void {
    while (isSpace(this.#bytes[this.#at])) this.#at++;
  }
}

function isSpace(octet: number | undefined): boolean {
  return octet === 0x20 || octet === 0x0a || octet === 0x0d || octet === 0x09;
}

/** Value of a hexadecimal digit; negative for any other octet. */
function hexDigit(octet: number): number {
  if (octet >= 0x30 && octet <= 0x39) return octet - 0x30;
  const lower = octet | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1;
}
