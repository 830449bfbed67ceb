/**
 * The chain of an audit log. A record is a line of JSON:
 *
 *     {"seq":7,"time":"2026-01-31T12:00:00.000Z","kind":"…",…,"prev":"<hash of record 6>","hash":"<hash of this record>"}
 *
 * Its hash is the SHA-256 of the line's bytes without `,"hash":"…"`, so it covers the record and the hash of the one before.
 */
import { hash } from "node:crypto";
import { timestamp } from "../domain/time.ts";
import type { AuditRecord, ChainRecord } from "./audit_record.ts";

/** Where a chain is: the number and the hash of a record. */
export interface Position {
  readonly sequence: number;
  /** Hexadecimal. */
  readonly hash: string;
}

/** Before the first record of a chain. */
export const BEGINNING: Position = { sequence: 0, hash: "0".repeat(64) };

/** A record of which only its place in the chain is missing. */
export function formatRecord(record: AuditRecord | ChainRecord): string {
  return `{"time":"${timestamp(Date.now())}",${JSON.stringify(record).slice(1)}`;
}

/** Puts a record behind another one; the line ends with a newline. */
export function chainRecord(record: string, before: Position): Position & { readonly line: string } {
  const sequence = before.sequence + 1;
  const open = `{"seq":${sequence},${record.slice(1, -1)},"prev":"${before.hash}"`;
  const digest = sha256(`${open}}`);
  return { sequence, hash: digest, line: `${open},"hash":"${digest}"}\n` };
}

/** A line whose hash is that of its content. */
export interface ChainedRecord extends Position {
  readonly before: string;
  readonly time: string;
  readonly kind: string;
  /** All members. */
  readonly content: Readonly<Record<string, unknown>>;
}

/**
 * @param line without newline.
 * @returns `undefined` when it is not a record, or its hash is not that of its content.
 */
export function readRecord(line: string): ChainedRecord | undefined {
  const end = /,"hash":"([0-9a-f]{64})"\}$/.exec(line);
  if (end === null || sha256(`${line.slice(0, end.index)}}`) !== end[1]) return undefined;
  return parseLine(line);
}

/** As {@linkcode readRecord}, whatever its hash is: where the line says that it belongs. */
export function parseLine(line: string): ChainedRecord | undefined {
  let content;
  try {
    content = JSON.parse(line) as Record<string, unknown>;
  } catch {
    return undefined;
  }
  if (typeof content !== "object" || content === null) return undefined;
  const { seq: sequence, time, kind, prev: before, hash } = content;
  if (!Number.isSafeInteger(sequence)) return undefined;
  if (![time, kind, before, hash].every((member) => typeof member === "string")) return undefined;
  return { sequence, time, kind, before, hash, content } as ChainedRecord;
}

/** Hexadecimal. */
export function sha256(data: string | Uint8Array): string {
  return hash("sha256", data, "hex");
}
