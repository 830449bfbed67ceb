/** Tables of the ledger, as Kysely sees them. All times are milliseconds since 1970, all ids of SAEs and KMEs are text. */
import type { ColumnType, Generated } from "kysely";

/**
 * State of a row of `blocks`; a block that is gone has none.
 * `reserved`: set aside to become a key, or a part of one; `pad`: set aside to encrypt a key on its way. A pad may have been
 * on the wire, so it never becomes a key, not even the peer's; `key`: handed over. A block that is a key as it stands stays
 * where it is, which costs a fraction of moving it; a key that is made of several, or of a part of one, takes their place.
 * `unmatched`: the other end of the link does not have the block, so it is not in the stock.
 */
export const BlockState = { free: 0, reserved: 1, pad: 2, key: 3, unmatched: 4 } as const;

/**
 * Phase of a reservation.
 * `open`: a request of `process` is under way;
 * `unresolved`: the peer may or may not have activated its blocks, nobody gets them until that is settled;
 * `refused`: the peer said it does not have them free: ours to burn, unless the peer activates them here first;
 * `absent`: the peer does not seem to have stored them yet: they are free again after `since`, which lies ahead.
 */
export const ReservationPhase = { open: 0, unresolved: 1, refused: 2, absent: 3 } as const;

export interface KmeTable {
  /** Always 1: the database belongs to one KME. */
  one: number;
  kme_id: string;
  /** Tells this database from every other one: 16 random bytes. */
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

/** Every block that was ever stored: what makes it impossible to store one twice. */
export interface SeenBlocksTable {
  block_id: Uint8Array;
}

export interface BlocksTable {
  /** Order of taking up; never used again. */
  seq: Generated<number>;
  /** The block's key_ID; null of a key that is not a block as it stands. */
  block_id: ColumnType<Uint8Array, Uint8Array | null, Uint8Array>;
  /** The key_ID of such a key. */
  key_id: Uint8Array | null;
  link_id: number;
  state: number;
  /** Last bit of the key_ID: which KME of the link takes the block first. */
  half: number;
  stored_at: number;
  /** Of a reserved block or a pad. */
  reservation_id: Uint8Array | null;
  /** Of the file that a block came from, see `fileTag`; null of a key that is not a block as it stands. */
  file_tag: number | null;
  /** Of a key. */
  delivery_id: number | null;
  /** 32 bytes of a block. Of a key, null once the last slave has read it, and where no slave reads it here. */
  bits: Uint8Array | null;
  /** Of a key that can be taken back: the key_IDs of the blocks it is made of, 16 bytes each, in order. */
  composition: Uint8Array | null;
  /**
   * Bytes that a free block has and that are dropped when its state changes for the first time: so a row does not grow. SQLite would
   * move rows of a full page to another one, and leave copies of their bits behind.
   */
  spare: Uint8Array | null;
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

/** Keys that were handed over together: to one master, for the same slaves. */
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

/** Who may read the keys of a delivery here: nobody on a KME that only handed them to the master. */
export interface DeliverySlavesTable {
  delivery_id: number;
  sae_id: string;
}

/** Which slave has read which key: that there is one row at most is what makes it once. */
export interface KeyReadsTable {
  /** Of the key. */
  seq: number;
  sae_id: string;
  read_at: number;
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
  /** SHA-256 of the file's whole blocks. */
  digest: Uint8Array;
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
  clock: ClockTable;
  links: LinksTable;
  stock: StockTable;
  seen_blocks: SeenBlocksTable;
  blocks: BlocksTable;
  reservations: ReservationsTable;
  deliveries: DeliveriesTable;
  delivery_slaves: DeliverySlavesTable;
  key_reads: KeyReadsTable;
  voided_transactions: VoidedTransactionsTable;
  key_files: KeyFilesTable;
  byte_counts: ByteCountsTable;
  processes: ProcessesTable;
  leases: LeasesTable;
  generation: GenerationTable;
}
