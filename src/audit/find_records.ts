/** Searches the audit log in a directory. */
import { parseLine } from "./audit_chain.ts";
import type { ChainedRecord } from "./audit_chain.ts";
import { auditFiles, byChain, linesOf, textOf } from "./audit_files.ts";
import { readTail } from "./chain_tail.ts";

export interface Search {
  /** Id of an SAE: as master, slave or caller. */
  readonly sae?: string;
  readonly keyId?: string;
  /** Milliseconds since 1970, inclusive. */
  readonly since?: number;
  /** Milliseconds since 1970, exclusive. */
  readonly until?: number;
  readonly kind?: string;
}

export interface FoundRecord {
  readonly chain: number;
  readonly record: ChainedRecord;
  /** As it is in the file, without newline. */
  readonly line: string;
}

/** Records in the order of each chain. They are not verified. */
export async function* findRecords(directory: string, search: Search): AsyncGenerator<FoundRecord> {
  for (const { chain, path } of await auditFiles(directory)) {
    for await (const line of linesOf(path)) {
      const text = textOf(line);
      const record = text === undefined ? undefined : parseLine(text);
      if (record !== undefined && matches(record, search)) yield { chain, record, line: text! };
    }
  }
}

export interface Head {
  readonly chain: number;
  readonly sequence: number;
  readonly hash: string;
  readonly time: string;
}

/** The last record of each chain. */
export async function headsOf(directory: string): Promise<Head[]> {
  const heads: Head[] = [];
  for (const [chain, files] of byChain(await auditFiles(directory))) {
    const tail = await readTail(files.at(-1)!);
    if (tail === undefined) throw new Error(`${files.at(-1)!.name} has no record`);
    const { sequence, hash, time } = tail.last;
    heads.push({ chain, sequence, hash, time });
  }
  return heads;
}

function matches({ time, kind, content }: ChainedRecord, search: Search): boolean {
  const at = Date.parse(time);
  if (search.since !== undefined && !(at >= search.since)) return false;
  if (search.until !== undefined && !(at < search.until)) return false;
  if (search.kind !== undefined && kind !== search.kind) return false;
  if (search.keyId !== undefined && !listOf(content.key_IDs).includes(search.keyId)) return false;
  return search.sae === undefined || saesOf(content).includes(search.sae);
}

function saesOf({ master, sae, slaves, caller }: ChainedRecord["content"]): unknown[] {
  // A refused request names its caller as in the log, like `SAE 1`.
  const name = typeof caller === "string" && caller.startsWith("SAE ") ? caller.slice(4) : undefined;
  return [master, sae, name, ...listOf(slaves)];
}

function listOf(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}
