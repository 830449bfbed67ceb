/** Tables of the ledger, as Kysely sees them. All times are milliseconds since 1970, all ids of SAEs and KMEs are text. */
import type { ColumnType, Generated } from "kysely";
import type { StoredBits } from "./encryption/bits_cipher.ts";

/**
 * State of a row of `blocks`; a block that is gone has none.
 * `reserved`: set aside to become a key, or a part of one. `pad`: set aside to encrypt a key for transport. A pad may have been
 * used on the wire, so it never becomes a key, not even at the peer. `key`: handed over. A key that is exactly one block keeps
 * the row of the block, which is much faster than moving it. A key made of several blocks, or of a part of one, replaces their
 * rows.
 * `unmatched`: the other end of the link does not have the block, so it is not in the stock. `damaged`: its bits are not those
 * that were stored in this row; it is never used.
 */
export const BlockState = { free: 0, reserved: 1, pad: 2, key: 3, unmatched: 4, damaged: 5 } as const;

/**
 * Phase of a reservation.
 * `open`: a request of `process` is under way;
 * `unresolved`: the peer may or may not have activated its blocks, they are not used until that is resolved;
 * `refused`: the peer does not have them free: they are burnt later, unless the peer activates them here before;
 * `absent`: the peer does not seem to have stored them yet: they are free again after `since`, which lies ahead.
 */
export const ReservationPhase = { open: 0, unresolved: 1, refused: 2, absent: 3 } as const;

export interface KmeTable {
  /** Always 1: the database belongs to one KME. */
  one: number;
  kme_id: string;
  /** Identifies this database: 16 random bytes. */
  database_id: Uint8Array;
}

/** One row: the time of the store, and what the system clock of the database's host showed then. */
export interface ClockTable {
  one: number;
  time: number;
  wall: number;
}

export interface LinksTable {
  id: Generated<number>;
  /** The KME at the other end; this KME's own id for keys between its own SAEs. */
  kme_id: string;
  /** The database of the other end with which the stocks were compared block by block last; null: none yet. */
  peer_database: string | null;
}

/** Free blocks of a link: the sum over its slots. Several slots so that writers do not wait for each other. */
export interface StockTable {
  link_id: number;
  slot: number;
  free: number;
}

/** Every block that was ever stored, so that none can be stored twice. */
export interface SeenBlocksTable {
  block_id: Uint8Array;
}

export interface BlocksTable {
  /** Order of ingestion; a number is never used again. */
  seq: Generated<number>;
  /** The digest that names the block; null for a key that is not exactly one block. */
  block_id: ColumnType<Uint8Array, Uint8Array | null, Uint8Array>;
  /** The key_ID of a key: a random UUID, or the digest of its block if the key is shared with a `qkd_kme_server`. */
  key_id: Uint8Array | null;
  link_id: number;
  state: number;
  /** Last bit of `block_id`: the KME of the link that uses the block first. */
  half: number;
  stored_at: number;
  /** Of a reserved block or a pad. */
  reservation_id: Uint8Array | null;
  /**
   * Of the file that a block came from, see `fileTag`, or of a QKD device, see `DEVICE_TAG`; null for a key that is not exactly
   * one block.
   */
  file_tag: number | null;
  /** Of a key. */
  delivery_id: number | null;
  /** Of a block 32 bytes, and more if they are encrypted. For a key, null if no slave reads it here, or after the last slave has read it, see `kept_keys`. */
  bits: StoredBits | null;
  /** For a key that can be taken back: the digests of its blocks, 16 bytes each, in order. */
  composition: Uint8Array | null;
  /**
   * Bytes of a free block that are dropped when its state changes for the first time, so that the row does not grow. SQLite would
   * move a grown row from a full page to another one and leave a copy of its bits behind.
   */
  spare: Uint8Array | null;
}

export interface ReservationsTable {
  /** Also the id of the transaction that is sent to peers. */
  reservation_id: Uint8Array;
  phase: number;
  /** The process that made the reservation; its lease shows whether it still runs. */
  process_id: Uint8Array;
  since: number;
  /** What the blocks are for, as JSON, so that any process can resolve the reservation. */
  plan: string | null;
}

/** Keys that were handed over together, to one master for the same slaves. */
export interface DeliveriesTable {
  /** `seq` of a block that went into it. */
  delivery_id: number;
  /** The KME whose SAE asked for the keys. */
  origin_kme: string;
  master_sae: string;
  created_at: number;
  expires_at: number;
  /** The peers' transaction that made the keys; null for keys of the `qkd_kme_server` message and of this KME's own. */
  transaction_id: Uint8Array | null;
  /** The link over which the transaction came. */
  link_id: number | null;
}

/** SAEs that may read the keys of a delivery here: none on a KME that only handed them to the master. */
export interface DeliverySlavesTable {
  delivery_id: number;
  sae_id: string;
}

/** Which slave has read which key. At most one row exists for each, so that each key is read once. */
export interface KeyReadsTable {
  /** Of the key. */
  seq: number;
  sae_id: string;
  read_at: number;
  /** SHA-256 of the certificate of the connection; null: the SAE may not read the key again. */
  certificate: ColumnType<Uint8Array | null, Uint8Array | undefined, never>;
  /** The process that read it, where the SAE may read it again: only that process knows whether this read has a record. */
  process_id: ColumnType<Uint8Array | null, Uint8Array | undefined, never>;
}

/** Keys whose bits are kept although all slaves have read them, so that a lost answer can be repeated. */
export interface KeptKeysTable {
  /** Of the key. It may have expired since. */
  seq: number;
  /** When the last slave has read it. */
  since: number;
}

/** Transactions that were taken back: a late message of such a transaction is refused. */
export interface VoidedTransactionsTable {
  transaction_id: Uint8Array;
  /** The link of its sender: a neighbour can take back only its own transactions. */
  link_id: number;
  /** 1 if its keys had been here: a repeated request gets the same answer. 2 only within a transaction, see `voided.ts`. */
  had_keys: number;
  since: number;
}

export interface KeyFilesTable {
  link_id: number;
  name: string;
  size: number;
  /** SHA-256 of the file's whole blocks. */
  digest: Uint8Array;
  taken: number;
}

/** Keys that this KME has requested from its QKD device, until the other end of the link has confirmed them or has not got them. */
export interface DeviceBatchesTable {
  batch_id: Uint8Array;
  link_id: number;
  /** The process that requested them. */
  process_id: Uint8Array;
  /** Blocks that were requested. */
  asked: number;
  /** The keys that came, as `DeviceKeys` in JSON; null: no answer yet. */
  keys: string | null;
}

/** Files of which the operator has dropped the blocks that the other end does not have: it is not told of them any more. */
export interface ForgottenFilesTable {
  link_id: number;
  /** See `fileTag`. */
  file_tag: number;
}

/**
 * How often each byte value occurred in all blocks ever stored: one row, 256 little-endian 64-bit counts. Stored as bits are,
 * because their change tells which bytes were added.
 */
export interface ByteCountsTable {
  one: number;
  counts: StoredBits;
}

/** The keys that encrypt bits; none: bits are stored in the clear. The one with the highest number is used. */
export interface DataKeysTable {
  number: number;
  /** Encrypted with the master key, and bound to the rest of the row: it opens only with that. */
  sealed_key: Uint8Array;
  /**
   * Not null while the bits that are already there are being encrypted with this key: `seq` of the last row of `blocks` for
   * which that is done.
   */
  resealed_through: number | null;
}

/** The newest certificate revocation list of each CA that was in force. */
export interface CrlsTable {
  /** Fingerprint of the CA's certificate. */
  ca: string;
  this_update: number;
  /** Decimal digits. */
  crl_number: string | null;
  der: Uint8Array;
}

export interface ProcessesTable {
  process_id: Uint8Array;
  lease_until: number;
}

/** Work that only one process at a time does. */
export interface LeasesTable {
  name: string;
  process_id: Uint8Array;
  lease_until: number;
}

/** One row: a number that only grows. It distinguishes the database from an older copy of itself. */
export interface GenerationTable {
  one: number;
  value: number;
}

export interface Schema {
  kme: KmeTable;
  clock: ClockTable;
  links: LinksTable;
  stock: StockTable;
  seen_blocks: SeenBlocksTable;
  blocks: BlocksTable;
  reservations: ReservationsTable;
  deliveries: DeliveriesTable;
  delivery_slaves: DeliverySlavesTable;
  key_reads: KeyReadsTable;
  kept_keys: KeptKeysTable;
  voided_transactions: VoidedTransactionsTable;
  key_files: KeyFilesTable;
  forgotten_files: ForgottenFilesTable;
  device_batches: DeviceBatchesTable;
  byte_counts: ByteCountsTable;
  data_keys: DataKeysTable;
  crls: CrlsTable;
  processes: ProcessesTable;
  leases: LeasesTable;
  generation: GenerationTable;
}
