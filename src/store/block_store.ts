/** The part of the store that ingestion uses. */
import type { Block } from "../domain/block.ts";
import type { KmeId } from "../domain/ids.ts";

/** How far a key file has been ingested. */
export interface FileProgress {
  /** File name without directory. */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /** SHA-256 of its whole blocks. */
  readonly digest: Uint8Array;
  /** Bytes from the start whose blocks have been stored, now or before; a multiple of 32. */
  readonly offset: number;
}

/** Consecutive blocks of one key file. */
export interface BlockBatch {
  /** The KME of the link, this KME's own id for the local directory. */
  readonly link: KmeId;
  readonly blocks: readonly Block[];
  /** Cap of free blocks of the link. */
  readonly maxFree: number;
  /** The file as it is now; `offset` is where the first block of the batch starts. */
  readonly file: FileProgress;
}

export interface AddedBlocks {
  /** Blocks newly stored. */
  readonly stored: number;
  /** Blocks that were left out because they had been stored before, at any time. */
  readonly known: number;
  /** Blocks from the start of the batch that were processed; fewer than in the batch when the link is full. */
  readonly taken: number;
}

export interface BlockStore {
  /** Identifies the database: 16 bytes, made when its tables were created. */
  readonly databaseId: Uint8Array;
  /** Number of calls so far that a request waited for. While it does not change, long transactions delay no request. */
  readonly requests: number;
  /** Whether a long transaction would block this thread. */
  readonly blocking: boolean;
  /**
   * Stores blocks and the file's new progress in one durable transaction, in order, until the link is full. Calls that are made
   * together share transactions. Rejects when the database fails; nothing is stored then.
   */
  addBlocks(batch: BlockBatch): Promise<AddedBlocks>;
  /** Recorded progress of the files of this link, by name. */
  fileProgress(link: KmeId, names: readonly string[]): Promise<ReadonlyMap<string, FileProgress>>;
  /** Free blocks of the link now. */
  freeBlocks(link: KmeId): Promise<number>;
}
