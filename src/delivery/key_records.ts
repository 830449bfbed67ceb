/** What is recorded of keys before they are given out. */
import type { KeyIdBytes } from "../domain/block.ts";
import type { KmeId, SaeId } from "../domain/ids.ts";
import type { ClientIdentity, ConnectedClient } from "../x509/client_identity.ts";

/** Keys for a master SAE. */
export interface DeliveredKeys {
  readonly client: ConnectedClient;
  readonly master: SaeId;
  readonly slaves: readonly SaeId[];
  /** Bits of each key. */
  readonly size: number;
  readonly ids: readonly KeyIdBytes[];
}

/** Keys that were recorded as delivered while they were taken from the database, which then failed. */
export interface UndeliveredKeys {
  readonly master: SaeId;
  readonly ids: readonly KeyIdBytes[];
  readonly reason: string;
}

/** Keys for a slave SAE. */
export interface FetchedKeys {
  readonly client: ConnectedClient;
  readonly slave: SaeId;
  readonly master: SaeId;
  readonly ids: readonly KeyIdBytes[];
  readonly outcome: FetchOutcome;
}

/**
 * Whether the slave had read the keys before. `repeated`: and that has a record. `perhaps repeated`: whether it has one is not known
 * here, so this may be the first answer that leaves.
 */
export type FetchOutcome = "first" | "repeated" | "perhaps repeated";

/** Keys that a neighbour sends, or asks to activate. */
export interface ReceivedKeys {
  readonly caller: ClientIdentity;
  readonly kme: KmeId;
  /** Absent in the message of `qkd_kme_server`. */
  readonly transaction?: KeyIdBytes;
  readonly master: SaeId;
  readonly slaves: readonly SaeId[];
  readonly ids: readonly KeyIdBytes[];
  readonly outcome: string;
  readonly reason?: string;
}

/** A neighbour's request to take a transaction back. */
export interface TakenBackKeys {
  readonly caller: ClientIdentity;
  readonly kme: KmeId;
  readonly transaction: KeyIdBytes;
  readonly outcome: string;
  readonly reason?: string;
}

export interface KeyRecords {
  /** @throws NotRecorded when nothing can be recorded now: then nothing is spent. */
  require(): void;
  /**
   * Resolves when the record is durable, like `fetched` and `received`.
   *
   * @throws NotRecorded
   */
  delivered(keys: DeliveredKeys): Promise<void>;
  /** Does not wait, like `takenBack`: no key is given out. */
  undelivered(keys: UndeliveredKeys): void;
  /** @throws NotRecorded */
  fetched(keys: FetchedKeys): Promise<void>;
  /** Waits only for keys that were activated. @throws NotRecorded */
  received(keys: ReceivedKeys): Promise<void>;
  takenBack(keys: TakenBackKeys): void;
}

/** Records nothing. */
export const noKeyRecords: KeyRecords = {
  require() {},
  delivered: () => Promise.resolve(),
  undelivered() {},
  fetched: () => Promise.resolve(),
  received: () => Promise.resolve(),
  takenBack() {},
};
