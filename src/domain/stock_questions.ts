/** What two KMEs of a link tell each other about their stocks. No message holds a key's bits. */
import type { KeyIdBytes } from "./block.ts";

/** Tells a key file from every other one on both ends: the first 48 bits of the SHA-256 of its whole blocks. */
export type FileTag = number;

/** In place of the tag of a file: of blocks from a QKD device that both ends have confirmed. */
export const DEVICE_TAG: FileTag = 1;

/** Of blocks from a QKD device that the other end has not confirmed yet. They are `unmatched`, and no difference. */
export const UNCONFIRMED_TAG: FileTag = 0;

/** How people read of {@linkcode DEVICE_TAG}. */
export const DEVICE_KEYS_NAME = "(keys of the QKD device)";

/** A key file that was ingested, perhaps not to its end. */
export interface StockFile {
  readonly tag: FileTag;
  /** Name without directory, as at the end that tells it. */
  readonly name: string;
  /** Blocks ingested so far. */
  readonly blocks: number;
}

/** Number of parts that the files of a link are divided into, by the first bits of their tags. */
export const FILE_BUCKETS = 256;

/** What the files of one bucket sum up to; equal on both ends where both have ingested the same. */
export interface BucketSummary {
  readonly files: number;
  /** 48 bits. */
  readonly hash: number;
}

/** What one end still holds of a file. */
export interface HeldFile {
  readonly tag: FileTag;
  readonly blocks: number;
  /** 48 bits over the key_IDs. */
  readonly hash: number;
}

/** What an end has ingested and still offers. */
export interface StockSummary {
  readonly kind: "summary";
  /** Identifies its database: 32 hexadecimal digits. */
  readonly database: string;
  /** Free blocks. */
  readonly free: number;
  /** All buckets. */
  readonly buckets: readonly BucketSummary[];
}

export type StockQuestion =
  /** Do we have the same? */
  | StockSummary
  /** Which files are in these buckets? */
  | { readonly kind: "files"; readonly buckets: readonly number[] }
  /** What is still held of each file? */
  | { readonly kind: "held" }
  /** Are these blocks held? */
  | { readonly kind: "blocks"; readonly ids: readonly KeyIdBytes[] };

/** Whether a block is there: `held`: it can still become a key; `gone`: it was there and was used; `absent`: it never was. */
export const BlockPresence = { absent: 0, held: 1, gone: 2 } as const;

export type StockAnswer =
  | StockSummary
  | { readonly kind: "files"; readonly files: readonly StockFile[] }
  /** Absent files: there are too many to list. */
  | { readonly kind: "held"; readonly files?: readonly HeldFile[] }
  /** One {@linkcode BlockPresence} for each block, in order. */
  | { readonly kind: "blocks"; readonly presence: Uint8Array };

/** Blocks in one question. */
export const MAX_ASKED_BLOCKS = 4096;

/** Files in one answer. Their names make up to 10 MB; reading the list must not keep others waiting. */
export const MAX_LISTED_FILES = 10_000;

const MODULUS = 2 ** 48;

export function fileTag(digest: Uint8Array): FileTag {
  let tag = 0;
  for (let i = 0; i < 6; i++) tag = tag * 256 + digest[i]!;
  return tag;
}

export function bucketOf(tag: FileTag): number {
  return Math.floor(tag / 2 ** 40);
}

/** The sum of two 48-bit hashes, itself one. */
export function addHashes(a: number, b: number): number {
  return (a + b) % MODULUS;
}

/** 48 bits of a key_ID. */
export function hashOfId(id: KeyIdBytes): number {
  let hash = 0;
  for (let i = 0; i < 6; i++) hash = hash * 256 + id[i]!;
  return hash;
}

/** One summary for each bucket. */
export function summarize(files: Iterable<StockFile>): BucketSummary[] {
  const buckets = Array.from({ length: FILE_BUCKETS }, () => ({ files: 0, hash: 0 }));
  for (const { tag, blocks } of files) {
    const bucket = buckets[bucketOf(tag)]!;
    bucket.files++;
    bucket.hash = addHashes(bucket.hash, addHashes(tag, (blocks * 2_654_435_761) % MODULUS));
  }
  return buckets;
}

/** Groups of these buckets, each with at most {@linkcode MAX_LISTED_FILES} files, unless it is one bucket with more. */
export function listable(buckets: readonly number[], of: readonly BucketSummary[]): number[][] {
  const groups: number[][] = [];
  let files = Infinity;
  for (const bucket of buckets) {
    const more = of[bucket]!.files;
    files += more;
    if (files <= MAX_LISTED_FILES) groups.at(-1)!.push(bucket);
    else {
      groups.push([bucket]);
      files = more;
    }
  }
  return groups;
}

/** Buckets in which the two ends differ. */
export function differingBuckets(a: readonly BucketSummary[], b: readonly BucketSummary[]): number[] {
  return a.flatMap(({ files, hash }, i) => files === b[i]?.files && hash === b[i]?.hash ? [] : [i]);
}
