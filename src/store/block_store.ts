/** What ingestion needs of the store. */
import type { Block } from "../domain/block.ts";
import type { KmeId } from "../domain/ids.ts";

/** How far a key file has been taken up. */
export interface FileProgress {
  /** File name without directory. */
  readonly name: string;
  /** Bytes, as last seen. */
  readonly size: number;
  /** Milliseconds since 1970, as last seen. */
  readonly mtime: number;
  /** Bytes from the start whose blocks are durably stored or known; a multiple of 32. */
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
  /** Blocks that had been stored before, at any time, and were left out. */
  readonly known: number;
  /** Blocks from the head of the batch that were dealt with; fewer than in the batch when the link is full. */
  readonly taken: number;
}

export interface BlockStore {
  /** Calls so far that a request waited for: as long as it does not change, nobody minds long transactions. */
  readonly requests: number;
  /** Whether a long transaction would hold up more than those that wait for the store. */
  readonly blocking: boolean;
  /**
   * Stores blocks and the file's new progress in one durable transaction, in order, until the link is full.
   * Rejects when the database fails; nothing is stored then.
   */
  addBlocks(batch: BlockBatch): Promise<AddedBlocks>;
  /** Progress of a file of this link, if any was recorded. */
  fileProgress(link: KmeId, name: string): Promise<FileProgress | undefined>;
  /** Free blocks of the link now. */
  freeBlocks(link: KmeId): Promise<number>;
}
