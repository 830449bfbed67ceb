/** `kme audit`: verifies and searches an audit log. */
import { command, InputError, UsageError } from "./command.ts";
import { printMessage } from "./stderr.ts";
import { errorMessage, escapeControlCharacters } from "../domain/text.ts";
import type { FoundRecord, Search } from "../audit/find_records.ts";
import type { Finding, VerifiedChain } from "../audit/verify_audit.ts";

const ACTIONS = ["verify", "show", "head"] as const;

/** Options of `show`. */
const SEARCH = ["sae", "key-id", "since", "until", "kind"] as const;

export const auditCommand = command({
  name: "audit",
  summary: "verify or search the audit log",
  usage:
    "verify|show|head DIR [--head HASH,...] [--sae ID] [--key-id ID] [--since TIME] [--until TIME] [--kind KIND] [--json]",
  description: [
    "kme audit verify reads the audit log in a directory (this_kme.audit_log) and finds records that were altered, removed, inserted, " +
    "repeated or moved, with file and line. A cut at the end leaves a whole chain: it is found only with --head, a hash that kme audit head " +
    "or the metric kme_audit_head gave earlier and that was kept elsewhere.",
    "kme audit show prints records, all or those that the options select. kme audit head prints the last record of each chain: " +
    "chain, number, hash, time. All three can be run while the KME runs.",
  ],
  operand: {
    name: "ACTION DIR",
    what: "action: verify, show or head",
    many: true,
    actions: ACTIONS,
    complete: "directory",
  },
  options: {
    head: {
      value: "HASH",
      description:
        "verify: hash of a record that must be there, or its first 13 digits or more; several with commas",
    },
    sae: { value: "ID", description: "show: records with this SAE as master, slave or caller" },
    "key-id": { value: "ID", description: "show: records with this key_ID" },
    since: { value: "TIME", description: "show: records from this time on, as in 2026-01-31T12:00:00Z" },
    until: { value: "TIME", description: "show: records before this time" },
    kind: { value: "KIND", description: "show: records of this kind, as in delivery, fetch, refusal" },
    json: { description: "show: the records as they are in the file" },
  },
  exitCodes: {
    0: "done; for verify: no problem was found",
    1: "verify has found a problem, or a file cannot be read",
    2: "wrong command line, or there is no audit log in the directory",
  },
  async run({ json, head, ...values }, [action, directory, ...rest]) {
    if (!(ACTIONS as readonly (string | undefined)[]).includes(action)) {
      throw new UsageError(`unknown action ${action}; use ${ACTIONS.join(", ")}`);
    }
    if (directory === undefined) throw new UsageError("the directory is missing");
    if (rest.length > 0) throw new UsageError(`unexpected argument ${rest[0]}`);
    const others = [...SEARCH.filter((name) => values[name] !== undefined), ...json ? ["json"] : []];
    if (action !== "show" && others.length > 0) throw new UsageError(`--${others[0]} belongs to show`);
    if (action !== "verify" && head !== undefined) throw new UsageError("--head belongs to verify");
    const heads = head === undefined ? [] : parseHeads(head);
    const search = parseSearch(values);
    await requireLog(directory);
    if (action === "verify") return await verify(directory, heads);
    return action === "show" ? await show(directory, search, json) : await printHeads(directory);
  },
});

async function verify(directory: string, heads: readonly string[]): Promise<number> {
  const { verifyAudit } = await import("../audit/verify_audit.ts");
  const { chains, findings, unknownHeads } = await verifyAudit({ directory, heads });
  for (const finding of findings) console.log(formatFinding(finding));
  for (const head of unknownHeads) {
    console.log(
      `PROBLEM no record has the hash ${head}: the records behind it were cut off or replaced, or its file was removed`,
    );
  }
  for (const chain of chains) console.log(formatChain(chain));
  const problems = findings.filter(({ severity }) => severity === "problem").length + unknownHeads.length;
  if (problems > 0) {
    console.log(`NOT WHOLE: ${problems} problem${problems === 1 ? "" : "s"}`);
    return 1;
  }
  console.log(
    heads.length > 0
      ? "whole, with every head that was given"
      : "whole, up to its last records: only a head that was kept elsewhere (--head) shows whether later ones were cut off",
  );
  return 0;
}

function formatFinding({ severity, place, line, message }: Finding): string {
  const where = line === undefined ? place : `${place} line ${line}`;
  return escapeControlCharacters(`${severity === "problem" ? "PROBLEM" : "notice"} ${where}: ${message}`);
}

function formatChain({ chain, first, sequence, hash, time, kind, isWritten }: VerifiedChain): string {
  return escapeControlCharacters(
    `chain ${chain}: records ${first} to ${sequence}, the last at ${time} (${kind}), hash ${hash}${
      isWritten ? "; a KME writes it now" : ""
    }`,
  );
}

async function show(directory: string, search: Search, json: boolean): Promise<number> {
  const { findRecords } = await import("../audit/find_records.ts");
  let found = 0;
  for await (const record of findRecords(directory, search)) {
    found++;
    console.log(json ? record.line : formatRecordForPeople(record));
  }
  if (found === 0) printMessage("no record matches", "info");
  return 0;
}

/** Members that every record has, or that are printed in front. */
const COMMON = ["seq", "time", "kind", "prev", "hash"];

function formatRecordForPeople({ chain, record }: FoundRecord): string {
  const members = Object.entries(record.content).filter(([name]) => !COMMON.includes(name))
    .map(([name, value]) => `${name}=${Array.isArray(value) ? value.join(",") : String(value)}`);
  const text = `${record.time} ${chain}/${record.sequence} ${record.kind} ${members.join(" ")}`.trimEnd();
  return escapeControlCharacters(text);
}

async function printHeads(directory: string): Promise<number> {
  const { headsOf } = await import("../audit/find_records.ts");
  for (const { chain, sequence, hash, time } of await headsOf(directory)) {
    console.log(`${chain} ${sequence} ${hash} ${time}`);
  }
  return 0;
}

async function requireLog(directory: string): Promise<void> {
  const { auditFiles } = await import("../audit/audit_files.ts");
  let files;
  try {
    files = await auditFiles(directory);
  } catch (error) {
    throw new InputError([`${directory}: cannot be read: ${errorMessage(error)}`]);
  }
  if (files.length === 0) throw new InputError([`${directory}: there is no audit log`]);
}

function parseHeads(text: string): string[] {
  return text.split(",").map((part) => {
    const head = part.trim().toLowerCase();
    if (/^[0-9a-f]{13,64}$/.test(head)) return head;
    throw new UsageError(`--head must be a hash, 13 to 64 hexadecimal digits, not ${part}`);
  });
}

function parseSearch(values: Readonly<Record<typeof SEARCH[number], string | undefined>>): Search {
  return {
    sae: values.sae,
    keyId: values["key-id"]?.toLowerCase(),
    since: parseTime("since", values.since),
    until: parseTime("until", values.until),
    kind: values.kind,
  };
}

function parseTime(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const time = Date.parse(text);
  if (!Number.isNaN(time)) return time;
  throw new UsageError(`--${name} must be a time, as in 2026-01-31T12:00:00Z, not ${text}`);
}
