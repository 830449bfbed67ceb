/** Parses database URIs in a configuration. */
import { isLoopback } from "../domain/address.ts";
import type { Database, DatabaseServer, DatabaseTls } from "./config.ts";
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
  const tls = parseTls(kind, url);
  if ("problem" in tls) return tls;
  // The drivers expect the scheme in lower case, and would read the parameters of TLS in their own way.
  return { value: { kind, uri: withoutTls(text).replace(/^[^:]*/, kind), ...tls.value } };
}

/** The parameters of the servers' own clients, with the modes that are known here. */
const TLS_PARAMETERS = {
  postgres: {
    mode: "sslmode",
    ca: "sslrootcert",
    modes: { "disable": undefined, "require": "none", "verify-ca": "chain", "verify-full": "host" },
  },
  mysql: {
    mode: "ssl-mode",
    ca: "ssl-ca",
    modes: { "DISABLED": undefined, "REQUIRED": "none", "VERIFY_CA": "chain", "VERIFY_IDENTITY": "host" },
  },
} as const;

function parseTls(kind: "postgres" | "mysql", url: URL): Parsed<{ tls?: DatabaseTls }> {
  const { mode: modeName, ca: caName, modes } = TLS_PARAMETERS[kind];
  const parameters = url.searchParams;
  for (const name of parameters.keys()) {
    if (
      isTlsParameter(name) && (name !== modeName && name !== caName || parameters.getAll(name).length > 1)
    ) {
      return {
        problem: `the database URI may have ${modeName} and ${caName} once each, and no other ssl parameter`,
      };
    }
  }
  const mode = parameters.get(modeName);
  const ca = parameters.get(caName) ?? undefined;
  if (mode !== null && !Object.hasOwn(modes, mode)) {
    return {
      problem: `the ${modeName} of the database URI is unknown; write ${Object.keys(modes).join(", ")}`,
    };
  }
  const verify = mode === null
    ? (isLocal(url) && ca === undefined ? undefined : "host")
    : (modes as Record<string, DatabaseTls["verify"] | undefined>)[mode];
  if (ca !== undefined && (verify === undefined || verify === "none")) {
    const [chain, host] = Object.keys(modes).slice(2);
    return { problem: `${caName} in the database URI needs ${modeName}=${chain} or ${host}` };
  }
  if (ca === "") {
    return {
      problem: `${caName} in the database URI is empty; write the path of a file with CA certificates`,
    };
  }
  return { value: verify === undefined ? {} : { tls: { verify, ...ca === undefined ? {} : { ca } } } };
}

function isTlsParameter(name: string): boolean {
  return /^(ssl|tls)/i.test(name);
}

function withoutTls(text: string): string {
  const [address = "", query] = text.split(/\?(.*)/s);
  if (query === undefined) return text;
  const others = query.split("&").filter((part) =>
    !isTlsParameter(new URLSearchParams(part).keys().next().value ?? "")
  );
  return others.length === 0 ? address : `${address}?${others.join("&")}`;
}

/** Whether no connection leaves this host. */
function isLocal(url: URL): boolean {
  const socket = url.searchParams.get("socketPath");
  const host = url.searchParams.get("host") ?? url.hostname;
  return socket !== null || host === "" || host.startsWith("/") || isLoopback(host);
}

/** What is to be said about how the connection is secured, if anything. */
export function tlsWarning({ kind, uri, tls }: DatabaseServer): string | undefined {
  if (tls !== undefined && tls.verify !== "none" || isLocal(new URL(uri))) return undefined;
  const { mode, modes } = TLS_PARAMETERS[kind];
  const remedy = `write ${mode}=${Object.keys(modes).at(-1)}`;
  return tls === undefined
    ? `the connection to the database is in clear, so who listens on the network reads keys; ${remedy}`
    : `the database server is not verified, so another one could take its place and read keys; ${remedy}`;
}
