/** Keys of a link that come from a pair of QKD devices, one at each end. What the two KMEs tell each other holds no key bits. */
import type { Block, KeyIdBytes } from "./block.ts";

/** A key of the devices, as one end tells the other. */
export interface DeviceKey {
  /** The device's key_ID, by which the other end fetches the key from its own device. */
  readonly id: string;
  /** key_IDs of the blocks that it was cut into, in order. */
  readonly blocks: readonly KeyIdBytes[];
}

/** A key of the devices with its bits. */
export interface DeviceKeyBits {
  readonly id: string;
  /** In order. */
  readonly blocks: readonly Block[];
}

/** Keys that one end has got from its device and stored, and the other is to fetch from its own. */
export interface DeviceKeysQuestion {
  /** Blocks of all keys are distinct. */
  readonly keys: readonly DeviceKey[];
}

/** What the other end has of the blocks. */
export interface DeviceKeysAnswer {
  /**
   * One `BlockPresence` for each block of the question, in order. `held`: it is in stock there. `gone`: it was there and was
   * used, or it never will be there. `absent`: not decided, ask again.
   */
  readonly presence: Uint8Array;
  /** Why some are not there, one line; it holds no secrets. */
  readonly reason?: string;
}

/** Keys in one message, and their blocks. They are stored in one transaction, for which the requests of others wait. */
export const MAX_DEVICE_KEYS = 1024;
export const MAX_DEVICE_BLOCKS = 1024;

/** Characters of a device's key_ID. The standard has UUIDs (ETSI GS QKD 014 V1.1.1, clause 6.3). */
export const MAX_DEVICE_KEY_ID = 255;
