/**
 * XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03) as libsodium implements it. The library is called without its wrappers: these
 * take three times as long for a block, and leave copies of what they encrypt in their memory.
 */
import createSodium from "libsodium";

export const KEY_BYTES = 32;
const NONCE_BYTES = 24;
const TAG_BYTES = 16;
/** By how many bytes a sealed text is longer. */
export const SEAL_BYTES = NONCE_BYTES + TAG_BYTES;
/** Bytes of the longest text and of the longest associated data. */
const MAX_TEXT = 8192;
const MAX_DATA = 256;
const MAX_PREFIX = 16;

/** What is used of the library's C interface. A 64-bit length takes two parameters: its lower and its upper half. */
interface Sodium {
  readonly HEAPU8: Uint8Array;
  _malloc(bytes: number): number;
  _free(at: number): void;
  _sodium_init(): number;
  _crypto_aead_xchacha20poly1305_ietf_encrypt(
    sealed: number,
    sealedLength: number,
    text: number,
    length: number,
    lengthHigh: number,
    data: number,
    dataLength: number,
    dataLengthHigh: number,
    unused: number,
    nonce: number,
    key: number,
  ): number;
  _crypto_aead_xchacha20poly1305_ietf_decrypt(
    text: number,
    textLength: number,
    unused: number,
    sealed: number,
    length: number,
    lengthHigh: number,
    data: number,
    dataLength: number,
    dataLengthHigh: number,
    nonce: number,
    key: number,
  ): number;
}

/** Places in the memory of the library. */
interface Places {
  readonly text: number;
  /** Of a nonce with the encrypted text and the tag behind it, and bytes of the caller before it. */
  readonly sealed: number;
  readonly data: number;
}

let loading: Promise<readonly [Sodium, Places]> | undefined;

async function load(): Promise<readonly [Sodium, Places]> {
  const sodium = await (createSodium as unknown as () => Promise<Sodium>)();
  if (sodium._sodium_init() < 0) throw new Error("libsodium cannot be used");
  return [sodium, {
    text: sodium._malloc(MAX_TEXT),
    sealed: sodium._malloc(MAX_PREFIX + NONCE_BYTES + MAX_TEXT + TAG_BYTES),
    data: sodium._malloc(MAX_DATA),
  }];
}

/** Encrypts and decrypts with one key. */
export class Aead {
  readonly #sodium: Sodium;
  readonly #at: Places;
  readonly #key: number;

  private constructor(sodium: Sodium, at: Places, key: number) {
    this.#sodium = sodium;
    this.#at = at;
    this.#key = key;
  }

  /** @param key 32 bytes; they are copied. */
  static async of(key: Uint8Array): Promise<Aead> {
    if (key.length !== KEY_BYTES) throw new RangeError(`a key has ${KEY_BYTES} bytes`);
    const [sodium, places] = await (loading ??= load());
    const at = sodium._malloc(KEY_BYTES);
    sodium.HEAPU8.set(key, at);
    return new Aead(sodium, places, at);
  }

  /**
   * @param text at most 8192 bytes.
   * @param data associated data, at most 256 bytes: needed again to open.
   * @param prefix bytes that are left free at the start of the result, at most 16.
   * @returns a random nonce of 192 bits, the encrypted text, and its tag of 128 bits.
   */
  seal(text: Uint8Array, data: Uint8Array, prefix = 0): Uint8Array {
    const { length } = text;
    if (length > MAX_TEXT || data.length > MAX_DATA || prefix > MAX_PREFIX) {
      throw new RangeError("too long to be sealed");
    }
    const { HEAPU8: memory } = this.#sodium;
    const at = this.#at;
    const nonce = at.sealed + prefix;
    const sealed = nonce + NONCE_BYTES;
    crypto.getRandomValues(memory.subarray(nonce, sealed));
    memory.set(data, at.data);
    memory.set(text, at.text);
    const code = this.#sodium._crypto_aead_xchacha20poly1305_ietf_encrypt(
      sealed,
      0,
      at.text,
      length,
      0,
      at.data,
      data.length,
      0,
      0,
      nonce,
      this.#key,
    );
    memory.fill(0, at.text, at.text + length);
    if (code !== 0) throw new Error("libsodium cannot encrypt");
    return memory.slice(at.sealed, sealed + length + TAG_BYTES);
  }

  /**
   * The text; `undefined` if it was altered, or sealed with another key or other associated data.
   *
   * @param prefix bytes at the start that do not belong to it.
   */
  open(sealed: Uint8Array, data: Uint8Array, prefix = 0): Uint8Array | undefined {
    const length = sealed.length - prefix - SEAL_BYTES;
    if (length < 0 || length > MAX_TEXT || data.length > MAX_DATA || prefix > MAX_PREFIX) return undefined;
    const { HEAPU8: memory } = this.#sodium;
    const at = this.#at;
    memory.set(sealed, at.sealed);
    memory.set(data, at.data);
    const nonce = at.sealed + prefix;
    const code = this.#sodium._crypto_aead_xchacha20poly1305_ietf_decrypt(
      at.text,
      0,
      0,
      nonce + NONCE_BYTES,
      length + TAG_BYTES,
      0,
      at.data,
      data.length,
      0,
      nonce,
      this.#key,
    );
    if (code !== 0) return undefined;
    const text = memory.slice(at.text, at.text + length);
    memory.fill(0, at.text, at.text + length);
    return text;
  }

  /** Overwrites the key. It cannot be used any more. */
  forget(): void {
    this.#sodium.HEAPU8.fill(0, this.#key, this.#key + KEY_BYTES);
    this.#sodium._free(this.#key);
  }
}
