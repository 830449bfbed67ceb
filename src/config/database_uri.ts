/** Where keys are stored, as a configuration writes it. */
import type { Database } from "./config.ts";
import type { Parsed } from "../domain/parsed.ts";

const RIGHT = "write :memory:, sqlite://path/to/kme.db, postgres://user:password@host/database or " +
  "mysql://user:password@host/database";

/**
 * Reads a database URI. The path of a `sqlite` database is as written, not yet resolved. No complaint repeats the
 * text: it may hold a password, wherever a slip of the pen has put it.
 */
export function parseDatabaseUri(text: string): Parsed<Database> {
  if (text === "") return { complaint: `the database URI is empty; ${RIGHT}` };
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
      return { complaint: `the database URI has no known scheme in front; ${RIGHT}` };
    default:
      return { complaint: `the database scheme ${scheme}:// is unknown; ${RIGHT}` };
  }
}

function parseSqlite(rest: string): Parsed<Database> {
  const [path = "", query = ""] = rest.split(/\?(.*)/s);
  const mode = new URLSearchParams(query);
  const modes = mode.getAll("mode");
  // The Rust KME's database layer takes parameters; these two say what is done here anyway.
  if (
    [...mode.keys()].some((name) => name !== "mode") || modes.some((mode) => !/^(rwc?|memory)$/.test(mode))
  ) {
    return { complaint: "an SQLite database takes no parameters other than ?mode=rwc; leave them out" };
  }
  if (path === ":memory:" || modes.includes("memory")) return { value: { kind: "memory" } };
  if (path === "" || path.includes("\0")) {
    return { complaint: "the SQLite database has no path; write sqlite://path/to/kme.db" };
  }
  // sqlite:///C:/keys/kme.db
  const withoutSlash = Deno.build.os === "windows" ? path.replace(/^\/(?=[a-z]:)/i, "") : path;
  return { value: { kind: "sqlite", path: withoutSlash } };
}

function parseServer(kind: "postgres" | "mysql", text: string): Parsed<Database> {
  const example = `${kind}://user:password@host/database`;
  const encode = "in user name and password percent-encode all but letters and digits (@ is %40, / is %2F)";
  let url: URL;
  try {
    url = new URL(text);
    decodeURIComponent(url.username);
    decodeURIComponent(url.password);
  } catch {
    return { complaint: `the database URI cannot be read; write ${example}, and ${encode}` };
  }
  // PostgreSQL on a Unix socket has its directory in the query.
  if (url.hostname === "" && !(kind === "postgres" && url.searchParams.get("host"))) {
    return { complaint: `the database URI names no host; write ${example}` };
  }
  if (!/^\/[^/]+$/.test(url.pathname)) {
    return { complaint: `the database URI names no database; write ${example}, and ${encode}` };
  }
  if (url.hash !== "") {
    return { complaint: `the database URI holds a #, which ends it; ${encode}` };
  }
  // Drivers compare the scheme as it is written.
  return { value: { kind, uri: text.replace(/^[^:]*/, kind) } };
}
