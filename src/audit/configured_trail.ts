/** The audit log that a configuration names. */
import { hostname, userInfo } from "node:os";
import type { ThisKme } from "../config/config.ts";
import { errorMessage } from "../domain/text.ts";
import { VERSION } from "../version.ts";
import type { AuditRecord } from "./audit_record.ts";
import { AuditTrail, type AuditTrailOptions } from "./audit_trail.ts";

type Configured = Pick<ThisKme, "auditLog" | "database" | "id">;

/**
 * Opens the log of a KME that starts, and records the start.
 *
 * @returns `undefined` when none is configured.
 * @throws Error with one line when it cannot be written: what cannot be recorded must not begin.
 */
export async function startTrail(
  thisKme: Configured,
  file: string,
  onFailure: AuditTrailOptions["onFailure"],
): Promise<AuditTrail | undefined> {
  return await open(thisKme, {
    kind: "start",
    version: VERSION,
    config: file,
    host: hostname(),
    pid: Deno.pid,
  }, onFailure);
}

/**
 * Runs a command that changes something, recorded before it begins and when it has ended. The KME does not run.
 *
 * @param command with its arguments.
 * @param describe what was done.
 * @throws what `run` throws; Error with one line when the command cannot be recorded: then it is not run.
 */
export async function recordCommand<T>(
  thisKme: Configured,
  command: string,
  run: () => Promise<T>,
  describe: (result: T) => string,
): Promise<T> {
  const record = { kind: "command", command, user: userName(), host: hostname() } as const;
  await using trail = await open(thisKme, { ...record, outcome: "begun" });
  try {
    const result = await run();
    await trail?.write({ ...record, outcome: "done", details: describe(result) });
    return result;
  } catch (error) {
    trail?.note({ ...record, outcome: "failed", details: errorMessage(error) });
    throw error;
  }
}

async function open(
  { auditLog, database, id }: Configured,
  first: AuditRecord,
  onFailure?: AuditTrailOptions["onFailure"],
): Promise<AuditTrail | undefined> {
  if (auditLog === undefined) return undefined;
  // No more durable than the keys.
  const durable = database.kind !== "memory";
  const trail = await AuditTrail.open({ ...auditLog, kme: id.text, durable, onFailure });
  try {
    await trail.write(first);
    return trail;
  } catch (error) {
    await trail.close();
    throw error;
  }
}

function userName(): string {
  try {
    return userInfo().username;
  } catch {
    return "unknown";
  }
}
