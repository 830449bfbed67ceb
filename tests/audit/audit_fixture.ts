/** Audit logs for tests, and changes to them. */
import type { AuditRecord } from "../../src/audit/audit_record.ts";
import { AuditTrail, type AuditTrailOptions } from "../../src/audit/audit_trail.ts";
import { type Finding, type Verification, verifyAudit } from "../../src/audit/verify_audit.ts";
import { makeTempDir } from "../harness/temp_dir.ts";

export interface LogDirectory extends AsyncDisposable {
  readonly path: string;
  /** Opens the log as a process does. */
  open(options?: Partial<AuditTrailOptions>): Promise<AuditTrail>;
  verify(heads?: readonly string[]): Promise<Verification>;
  /** Names of the log's files, in order. */
  files(): string[];
  read(name: string): Uint8Array;
  write(name: string, bytes: Uint8Array): void;
}

export async function makeLogDirectory(): Promise<LogDirectory> {
  const temp = await makeTempDir("kme-audit-");
  const { path } = temp;
  return {
    path,
    open: (options) =>
      AuditTrail.open({ directory: path, kme: "1", rotateBytes: 1 << 20, durable: false, ...options }),
    verify: (heads) => verifyAudit({ directory: path, heads }),
    files: () =>
      [...Deno.readDirSync(path)].map(({ name }) => name).filter((name) => name.endsWith(".jsonl")).sort(),
    read: (name) => Deno.readFileSync(`${path}/${name}`),
    write: (name, bytes) => Deno.writeFileSync(`${path}/${name}`, bytes),
    [Symbol.asyncDispose]: () => temp.remove(),
  };
}

/** The record of a key that was given out; the number makes it a different one. */
export function deliveryRecord(number: number): AuditRecord {
  return {
    kind: "delivery",
    master: "1",
    slaves: ["3"],
    size: 256,
    key_IDs: [`00000000-0000-4000-8000-${String(number).padStart(12, "0")}`],
    certificate: "c".repeat(64),
    address: "192.0.2.1:50000",
  };
}

export function problemsOf({ findings }: Verification): Finding[] {
  return findings.filter(({ severity }) => severity === "problem");
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export function linesIn(bytes: Uint8Array): string[] {
  return decoder.decode(bytes).split("\n").slice(0, -1);
}

export function fileOf(lines: readonly string[]): Uint8Array {
  return encoder.encode(lines.map((line) => `${line}\n`).join(""));
}
