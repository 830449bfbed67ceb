/** Tables of the ledger, as Kysely sees them. All times are milliseconds since 1970, all ids of SAEs and KMEs are text. */
import type { Generated } from "kysely";

/**
 * State of a stored block; a block that is gone has no row.
 * `reserved`: set aside to become a key, or a part of one; `pad`: set aside to encrypt a key on its way. A pad may have been
 * on the wire, so it never becomes a key, not even the peer's.
 */
export const BlockState = { free: 0, reserved: 1, pad: 2 } as const;

/**
 * Phase of a reservation.
 * `open`: a request of `process` is under way;
 * `unresolved`: the peer may or may not have activated its blocks, nobody gets them until that is settled;
 * `refused`: the peer said it does not have them free: ours to burn, unless the peer activates them here first;
 * `absent`: the peer has not stored them yet: they are free again after a while.
 */
export const ReservationPhase = { open: 0, unresolved: 1, refused: 2, absent: 3 } as const;

export interface KmeTable {
  /** Always 1: the database belongs to one KME. */
  one: number;
  kme_id: string;
}

export interface LinksTable {
  id: Generated<number>;
  /** The KME at the other end; this KME's own id for keys between its own SAEs. */
  kme_id: string;
}

/** Free blocks of a link: the sum over its slots. Several slots so that writers do not wait for each other. */
export interface StockTable {
  link_id: number;
  slot: number;
  free: number;
}

/** Every block that was ever stored: what makes it impossible to store one twice. */
export interface SeenBlocksTable {
  block_id: Uint8Array;
}

export interface BlocksTable {
  /** Order of taking up. */
  seq: Generated<number>;
  block_id: Uint8Array;
  link_id: number;
  state: number;
  /** Last bit of the key_ID: which KME of the link takes the block first. */
  half: number;
  stored_at: number;
  reservation_id: Uint8Array | null;
  /** 32 bytes. */
  bits: Uint8Array;
}

export interface ReservationsTable {
  /** Also the id of the transaction that is agreed with peers. */
  reservation_id: Uint8Array;
  phase: number;
  /** The process that reserved; its lease tells whether it still lives. */
  process_id: Uint8Array;
  since: number;
  /** What the blocks are for, as JSON, for whoever has to settle the reservation in the end. */
  plan: string | null;
}

export interface KeysTable {
  key_id: Uint8Array;
  /** The KME whose SAE asked for the key. */
  origin_kme: string;
  master_sae: string;
  created_at: number;
  expires_at: number;
  /** Null once the last slave has read it, and on the master's KME when no slave is its own. */
  bits: Uint8Array | null;
  /** The peers' transaction that made the key; null for keys of the `qkd_kme_server` message and of this KME's own. */
  transaction_id: Uint8Array | null;
  /** The link over which the transaction came. */
  link_id: number | null;
  /** key_IDs of the blocks that the key is made of, 16 bytes each, in order, where it can be taken back. */
  blocks: Uint8Array | null;
}

/** Who may read a key here: none on a KME that only handed it to the master. */
export interface KeySlavesTable {
  key_id: Uint8Array;
  sae_id: string;
  /** When the slave read it; null: not yet. */
  read_at: number | null;
}

/** Transactions that were taken back: a message of theirs that comes late is refused. */
export interface VoidedTransactionsTable {
  transaction_id: Uint8Array;
  /** Whose it was: a neighbour takes back only what it sent itself. */
  link_id: number;
  /** 1 when its keys had been here: whoever asks again hears the same. 2 only within a transaction, see `voided.ts`. */
  had_keys: number;
  since: number;
}

export interface KeyFilesTable {
  link_id: number;
  name: string;
  size: number;
  mtime: number;
  taken: number;
}

/** How often each byte value occurred in all blocks ever stored: one row, 256 little-endian 64-bit counts. */
export interface ByteCountsTable {
  one: number;
  counts: Uint8Array;
}

export interface ProcessesTable {
  process_id: Uint8Array;
  lease_until: number;
}

/** Work that one process at a time does. */
export interface LeasesTable {
  name: string;
  process_id: Uint8Array;
  lease_until: number;
}

/** One row: a number that only grows, by which the database is told from an older copy of itself. */
export interface GenerationTable {
  one: number;
  value: number;
}

export interface Schema {
  kme: KmeTable;
  links: LinksTable;
  stock: StockTable;
  seen_blocks: SeenBlocksTable;
  blocks: BlocksTable;
  reservations: ReservationsTable;
  keys: KeysTable;
  key_slaves: KeySlavesTable;
  voided_transactions: VoidedTransactionsTable;
  key_files: KeyFilesTable;
  byte_counts: ByteCountsTable;
  processes: ProcessesTable;
  leases: LeasesTable;
  generation: GenerationTable;
}
