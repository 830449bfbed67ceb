/** Checks the database without creating or migrating anything. */
import { resolve } from "node:path";
import type { Config, Database } from "../config/config.ts";
import { markerPath, readMarker } from "../rollback_guard/marker.ts";
import { explain } from "../tls/connect.ts";
import { isRunning } from "./listener_checks.ts";
import { inspectDatabase, type Inspection } from "../store/inspection.ts";
import { type CheckLine, environmentError, ok } from "./check_line.ts";
import { errorMessage } from "../domain/text.ts";

const MEMBER = "this_kme.db_uri";

/** What was found in the database. */
export interface DatabaseLook {
  readonly found: { readonly inspection: Inspection } | { readonly error: unknown };
  /** DER of the CRLs that were in force; none where the database cannot be read, as while a KME has the file open. */
  readonly crls: readonly Uint8Array[];
}

/** Reads what the checks need to know. */
export async function lookAtDatabase(database: Database): Promise<DatabaseLook> {
  try {
    const inspection = await inspectDatabase(database);
    return { found: { inspection }, crls: inspection.kind === "seen" ? inspection.crls : [] };
  } catch (error) {
    return { found: { error }, crls: [] };
  }
}

export async function checkDatabase(config: Config, { found }: DatabaseLook): Promise<CheckLine[]> {
  const { database } = config.thisKme;
  if ("error" in found) {
    const { reason, fix } = failure(found.error);
    return [environmentError(MEMBER, `${nameOf(database)} cannot be used: ${reason}`, fix)];
  }
  const { inspection } = found;
  switch (inspection.kind) {
    case "absent":
      return database.kind === "memory" ? [ok(MEMBER, "in memory: all keys are lost at a restart")] : [
        ok(MEMBER, `${nameOf(database)} does not exist yet; the start creates it`),
        ...await checkAge(config, 0),
      ];
    case "inUse":
      return [await checkHolder(config)];
    case "seen":
      return await checkSeen(config, inspection);
  }
}

/** A locked database does not say by which process; the listeners of this KME show whether it is this KME. */
async function checkHolder(config: Config): Promise<CheckLine> {
  const name = nameOf(config.thisKme.database);
  if (await isRunning(config)) return ok(MEMBER, `${name} is in use by a running KME, which is this one`);
  return environmentError(
    MEMBER,
    `${name} is in use by another process, and this KME does not answer at its addresses`,
    "stop the process that has the file open; if it is this KME with older certificates or addresses, send it SIGHUP or restart it",
  );
}

async function checkSeen(
  config: Config,
  { schema, kme, processes, generation }: Inspection & { kind: "seen" },
): Promise<CheckLine[]> {
  const { database, id } = config.thisKme;
  const name = nameOf(database);
  if (schema.unknown.length > 0) {
    return [environmentError(
      MEMBER,
      `${name} was made by a newer version of this program (it has ${schema.unknown.join(", ")})`,
      "run that version",
    )];
  }
  if (kme !== undefined && kme !== id.text) {
    return [
      environmentError(
        MEMBER,
        `${name} belongs to KME ${kme}, not to KME ${id.text}`,
        "use a separate database for each KME",
      ),
    ];
  }
  const version = schema.applied.at(-1);
  const state = version === undefined
    ? "is empty; the start creates its tables"
    : schema.missing.length > 0
    ? `has schema ${version}; the start applies ${schema.missing.join(", ")}`
    : `has schema ${version}`;
  const users = processes === 0
    ? ""
    : `; in use by ${processes === 1 ? "a running KME" : `${processes} processes of this KME`}`;
  const lines = [ok(MEMBER, `${name} ${state}${users}`)];
  return processes > 0 ? lines : [...lines, ...await checkAge(config, generation ?? 0)];
}

/** Notices a restored backup, whose keys may have been delivered already. */
async function checkAge(config: Config, generation: number): Promise<CheckLine[]> {
  const path = markerPath(config);
  if (path === undefined) return [];
  const what = "age of the database";
  try {
    const marker = await readMarker(path);
    if (marker === undefined) return [ok(what, `${path} does not exist yet; the start creates it`)];
    if (generation >= marker.generation) return [ok(what, `not older than it was at ${marker.at}`)];
    return [environmentError(
      what,
      `the database is older than it was at ${marker.at} (its generation is ${generation}, ${path} says ` +
        `${marker.generation}): keys may be delivered a second time`,
      `restore the latest database, or destroy all keys in it and in the key files with: kme burn ${config.file}`,
    )];
  } catch (error) {
    return [environmentError(what, errorMessage(error), "see docs/operations.md")];
  }
}

/** Without user and password. */
export function nameOf(database: Database): string {
  switch (database.kind) {
    case "memory":
      return "the database in memory";
    case "sqlite":
      return database.path;
    case "postgres":
    case "mysql": {
      const url = new URL(database.uri);
      const kind = database.kind === "postgres" ? "PostgreSQL" : "MySQL";
      return `${kind} database ${url.pathname.slice(1)} at ${url.host || "a socket"}`;
    }
  }
}

/** {@linkcode nameOf}, with the whole path of a file. */
export function fullNameOf(database: Database): string {
  return database.kind === "sqlite" ? resolve(database.path) : nameOf(database);
}

/** By the error codes of the drivers, whose messages may contain the user name. */
const FAILURES: Record<string, { reason: string; fix: string }> = {
  ECONNREFUSED: { reason: "connection refused", fix: "start the database server, or correct host and port" },
  ENOTFOUND: { reason: "host name not found", fix: "correct the host in db_uri" },
  "28P01": { reason: "user name or password refused", fix: "correct user name and password in db_uri" },
  "28000": {
    reason: "user or address refused",
    fix: "allow the user in pg_hba.conf, or correct the user name",
  },
  "3D000": { reason: "there is no such database", fix: "create it, or correct its name" },
  "42501": { reason: "permission denied", fix: "make the KME's user the owner of the database" },
  ER_ACCESS_DENIED_ERROR: {
    reason: "user name or password refused",
    fix: "correct user name and password in db_uri",
  },
  ER_DBACCESS_DENIED_ERROR: {
    reason: "the user may not use the database",
    fix: "grant the KME's user all privileges on it",
  },
  ER_BAD_DB_ERROR: { reason: "there is no such database", fix: "create it, or correct its name" },
  SQLITE_NOTADB: {
    reason: "it is not an SQLite database",
    fix: "write the path of an SQLite database, or of a file that does not exist yet",
  },
  SQLITE_CANTOPEN: { reason: "it cannot be opened", fix: "let the user of the KME read and write the file" },
};

function failure(error: unknown): { reason: string; fix: string } {
  const { code } = error as { code?: unknown };
  const known = typeof code === "string" ? FAILURES[code] : undefined;
  return known ??
    { reason: explain(error), fix: "check that the server runs and can be reached from this machine" };
}
