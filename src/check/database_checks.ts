/** Whether the database can be used as it is. Nothing is created or migrated. */
import type { Config, Database } from "../config/config.ts";
import { markerPath, readMarker } from "../rollback_guard/marker.ts";
import { explain } from "../inter_kme/connect.ts";
import { isRunning } from "./listener_checks.ts";
import { inspectDatabase, type Inspection } from "../store/inspection.ts";
import { broken, type CheckLine, ok } from "./check_line.ts";
import { errorMessage } from "../domain/text.ts";

const MEMBER = "this_kme.db_uri";

export async function checkDatabase(config: Config): Promise<CheckLine[]> {
  const { database } = config.thisKme;
  let inspection: Inspection;
  try {
    inspection = await inspectDatabase(database);
  } catch (error) {
    const { reason, mend } = failure(error);
    return [broken(MEMBER, `${nameOf(database)} cannot be used: ${reason}`, mend)];
  }
  switch (inspection.kind) {
    case "absent":
      return database.kind === "memory" ? [ok(MEMBER, "in memory: a restart forgets all keys")] : [
        ok(MEMBER, `${nameOf(database)} does not exist yet; the start creates it`),
        ...await checkAge(config, 0),
      ];
    case "inUse":
      return [await checkHolder(config)];
    case "seen":
      return await checkSeen(config, inspection);
  }
}

/** A database that is locked does not tell by whom; the listeners of this KME do. */
async function checkHolder(config: Config): Promise<CheckLine> {
  const name = nameOf(config.thisKme.database);
  if (await isRunning(config)) return ok(MEMBER, `${name} is in use by a running KME, which is this one`);
  return broken(
    MEMBER,
    `${name} is in use by another process, and this KME does not answer at its addresses`,
    "stop whatever has the file open; if it is this KME with older certificates or addresses, send it a SIGHUP or restart it",
  );
}

async function checkSeen(
  config: Config,
  { schema, kme, processes, generation }: Inspection & { kind: "seen" },
): Promise<CheckLine[]> {
  const { database, id } = config.thisKme;
  const name = nameOf(database);
  if (schema.unknown.length > 0) {
    return [broken(
      MEMBER,
      `${name} was made by a newer version of this program (it has ${schema.unknown.join(", ")})`,
      "use that version",
    )];
  }
  if (kme !== undefined && kme !== id.text) {
    return [
      broken(
        MEMBER,
        `${name} belongs to KME ${kme}, not to KME ${id.text}`,
        "give each KME a database of its own",
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

/** A backup must not be used for keys. */
async function checkAge(config: Config, generation: number): Promise<CheckLine[]> {
  const path = markerPath(config);
  if (path === undefined) return [];
  const what = "age of the database";
  try {
    const marker = await readMarker(path);
    if (marker === undefined) return [ok(what, `${path} does not exist yet; the start creates it`)];
    if (generation >= marker.generation) return [ok(what, `not older than it was at ${marker.at}`)];
    return [broken(
      what,
      `the database is older than it was at ${marker.at} (its generation is ${generation}, ${path} says ` +
        `${marker.generation}): it may give out keys a second time`,
      `put the latest database back, or give up all keys in it and in the key files with: kme burn ${config.file}`,
    )];
  } catch (error) {
    return [broken(what, errorMessage(error), "see docs/operations.md")];
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

/** Codes of the drivers. Their messages may name the user; these do not. */
const FAILURES: Record<string, { reason: string; mend: string }> = {
  ECONNREFUSED: { reason: "connection refused", mend: "start the database server, or correct host and port" },
  ENOTFOUND: { reason: "host name not found", mend: "correct the host in db_uri" },
  "28P01": { reason: "user name or password refused", mend: "correct user name and password in db_uri" },
  "28000": {
    reason: "user or address refused",
    mend: "let the user in (pg_hba.conf), or correct the user name",
  },
  "3D000": { reason: "there is no such database", mend: "create it, or correct its name" },
  "42501": { reason: "permission denied", mend: "make the KME's user the owner of the database" },
  ER_ACCESS_DENIED_ERROR: {
    reason: "user name or password refused",
    mend: "correct user name and password in db_uri",
  },
  ER_DBACCESS_DENIED_ERROR: {
    reason: "the user may not use the database",
    mend: "grant all on it to the KME's user",
  },
  ER_BAD_DB_ERROR: { reason: "there is no such database", mend: "create it, or correct its name" },
  SQLITE_NOTADB: {
    reason: "it is not an SQLite database",
    mend: "write the path of one, or of no file at all",
  },
  SQLITE_CANTOPEN: { reason: "it cannot be opened", mend: "let the user of the KME read and write it" },
};

function failure(error: unknown): { reason: string; mend: string } {
  const { code } = error as { code?: unknown };
  const known = typeof code === "string" ? FAILURES[code] : undefined;
  return known ?? { reason: explain(error), mend: "see that the server runs and answers this machine" };
}
