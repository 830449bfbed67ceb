/** Parses database URIs in a configuration. */
import type { Database } from "./config.ts";
import type { Parsed } from "../domain/parsed.ts";
import { platform } from "../platform.ts";

const RIGHT = "write :memory:, sqlite://path/to/kme.db, postgres://user:password@host/database or " +
  "mysql://user:password@host/database";

/**
 * Parses a database URI. The path of a `sqlite` database is not yet resolved. No message repeats the text: after a typo
 * the password may be anywhere in it.
 */
export function parseDatabaseUri(text: string): Parsed<Database> {
  if (text === "") return { problem: `the database URI is empty; ${RIGHT}` };
  if (text === ":memory:") return { value: { kind: "memory" } };
  const sqlite = /^sqlite:(?:\/\/)?(.*)$/is.exec(text);
  if (sqlite !== null) return parseSqlite(sqlite[1]!);
  const scheme = /^([a-z][a-z0-9+.-]{0,19}):\/\//i.exec(text)?.[1]?.toLowerCase();
  switch (scheme) {
    case "postgres":
    case "postgresql":
      return parseServer("postgres", text);
    case "mysql":
    case "mariadb":
      return parseServer("mysql", text);
    case undefined:
      return { problem: `the database URI has no known scheme in front; ${RIGHT}` };
    default:
      return { problem: `the database scheme ${scheme}:// is unknown; ${RIGHT}` };
  }
}

function parseSqlite(rest: string): Parsed<Database> {
  const [path = "", query = ""] = rest.split(/\?(.*)/s);
  const mode = new URLSearchParams(query);
  const modes = mode.getAll("mode");
  // The database layer of the Rust KME has parameters; these two ask for what is done here anyway.
  if (
    [...mode.keys()].some((name) => name !== "mode") || modes.some((mode) => !/^(rwc?|memory)$/.test(mode))
  ) {
    return { problem: "an SQLite database has no parameters but ?mode=rwc; leave out the others" };
  }
  if (path === ":memory:" || modes.includes("memory")) return { value: { kind: "memory" } };
  if (path === "" || path.includes("\0")) {
    return { problem: "the SQLite database has no path; write sqlite://path/to/kme.db" };
  }
  return { value: { kind: "sqlite", path: platform.pathOfUri(path) } };
}

function parseServer(kind: "postgres" | "mysql", text: string): Parsed<Database> {
  const example = `${kind}://user:password@host/database`;
  const encode =
    "in the user name and password percent-encode all but letters and digits (@ is %40, / is %2F)";
  let url: URL;
  try {
    url = new URL(text);
    decodeURIComponent(url.username);
    decodeURIComponent(url.password);
  } catch {
    return { problem: `the database URI cannot be read; write ${example}, and ${encode}` };
  }
  // For a Unix socket of PostgreSQL, its directory is in the query.
  if (url.hostname === "" && !(kind === "postgres" && url.searchParams.get("host"))) {
    return { problem: `the database URI names no host; write ${example}` };
  }
  if (!/^\/[^/]+$/.test(url.pathname)) {
    return { problem: `the database URI names no database; write ${example}, and ${encode}` };
  }
  if (url.hash !== "") {
    return { problem: `the database URI contains #, which ends it; ${encode}` };
  }
  // The drivers expect the scheme in lower case.
  return { value: { kind, uri: text.replace(/^[^:]*/, kind) } };
}
