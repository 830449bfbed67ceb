/** The command line of `deno task bench`. */
import { parseArgs } from "node:util";

/** In the order in which they are measured. */
export const GROUPS = [
  "memory",
  "databases",
  "latency",
  "agreement",
  "audit",
  "encryption",
  "key_ids",
  "pools",
  "ingestion",
  "devices",
  "stall",
  "mixed",
  "large",
] as const;

export type Group = typeof GROUPS[number];

/** Groups that are only measured when they are named. */
const ONLY_NAMED: readonly Group[] = ["large"];

export interface MeasureCommand {
  readonly kind: "measure";
  readonly quick: boolean;
  readonly groups: readonly Group[];
  /** File for the results. */
  readonly json: string;
}

/** Paths are of PEM files. */
export interface AgainstCommand {
  readonly kind: "against";
  /** Without a slash at the end; `/api/v1/keys/…` is added. */
  readonly url: string;
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
  readonly slaveId: string;
  /** The slave SAE that fetches the keys; absent: no pairs are measured. */
  readonly slave?: {
    readonly url: string;
    readonly ca: string;
    readonly cert: string;
    readonly key: string;
    readonly masterId: string;
  };
  readonly connections: number;
  /** Most seconds of each of the measurements. */
  readonly seconds: number;
  /** Most requests of each of them. */
  readonly requests: number;
}

export type Command =
  | MeasureCommand
  | AgainstCommand
  | { readonly kind: "help" }
  | { readonly kind: "wrong"; readonly problem: string };

/** Options of numbers: the default, and what is allowed. */
const NUMBERS = {
  connections: { default: 32, min: 1, max: 256 },
  seconds: { default: 10, min: 1, max: 600 },
  requests: { default: 10_000, min: 10, max: 1_000_000 },
} as const;

const AGAINST_OPTIONS = {
  against: { type: "string" },
  ca: { type: "string" },
  cert: { type: "string" },
  key: { type: "string" },
  slave: { type: "string" },
  master: { type: "string" },
  "slave-cert": { type: "string" },
  "slave-key": { type: "string" },
  "slave-ca": { type: "string" },
  "decrypt-url": { type: "string" },
  connections: { type: "string" },
  seconds: { type: "string" },
  requests: { type: "string" },
} as const;

const MEASURE_OPTIONS = {
  quick: { type: "boolean" },
  only: { type: "string" },
  json: { type: "string" },
} as const;

export const USAGE = `usage: deno task bench [-- --quick] [--only GROUP,...] [--json FILE]
       deno task bench -- --against URL --cert FILE --key FILE --ca FILE --slave ID
                          [--master ID --slave-cert FILE --slave-key FILE] ...

Without --against it measures this program: see docs/performance.md.
  --quick            shorter runs and smaller pools
  --only GROUP,...   only these of ${GROUPS.join(", ")}
                     (without it: all but ${ONLY_NAMED.join(", ")})
  --json FILE        where the results are written; bench.json by default

With --against it sends the same requests to any server of ETSI GS QKD 014 and prints the rate, p50 and p99 of
status and enc_keys, and of enc_keys then dec_keys where a slave is given. Each uses up at most --requests keys.
  --against URL      the KME of the master SAE, like https://kme1.example:13000
  --cert, --key      certificate and private key of the master SAE, PEM
  --ca FILE          CA that has issued the server's certificate, PEM
  --slave ID         id of the slave SAE
  --master ID        id of the master SAE, for dec_keys
  --slave-cert, --slave-key, --slave-ca
                     the slave SAE's; the CA by default that of --ca
  --decrypt-url URL  the KME of the slave SAE; by default that of --against
  --connections N    kept at the same time, ${NUMBERS.connections.min} to ${NUMBERS.connections.max}; ${NUMBERS.connections.default} by default
  --seconds N        most seconds of each measurement, to ${NUMBERS.seconds.max}; ${NUMBERS.seconds.default} by default
  --requests N       most requests of each measurement, ${NUMBERS.requests.min} to ${NUMBERS.requests.max}; ${NUMBERS.requests.default} by default`;

/** The same in one line, after what is wrong with a command line. */
export const SHORT_USAGE =
  "usage: deno task bench [-- --quick] [--only GROUP,...] [--json FILE] | -- --against URL " +
  "--cert FILE --key FILE --ca FILE --slave ID [...]; --help tells all options";

class Wrong extends Error {}

export function parseCommandLine(args: readonly string[]): Command {
  try {
    return parse(args.filter((argument) => argument !== "--"));
  } catch (error) {
    if (error instanceof Wrong) return { kind: "wrong", problem: error.message };
    // Of parseArgs: the first sentence says what is wrong.
    if (error instanceof TypeError) return { kind: "wrong", problem: error.message.split(". ")[0]! };
    throw error;
  }
}

function parse(args: string[]): Command {
  const { values } = parseArgs({
    args,
    options: { ...AGAINST_OPTIONS, ...MEASURE_OPTIONS, help: { type: "boolean", short: "h" } },
  });
  if (values.help) return { kind: "help" };
  const isAgainst = values.against !== undefined;
  for (const name of Object.keys(isAgainst ? MEASURE_OPTIONS : AGAINST_OPTIONS)) {
    if (!Object.hasOwn(values, name)) continue;
    throw new Wrong(`--${name} ${isAgainst ? "cannot be used with" : "needs"} --against`);
  }
  if (!isAgainst) {
    return {
      kind: "measure",
      quick: values.quick ?? false,
      groups: values.only === undefined
        ? GROUPS.filter((group) => !ONLY_NAMED.includes(group))
        : groupsIn(values.only),
      json: values.json ?? "bench.json",
    };
  }
  const needed = (name: keyof typeof AGAINST_OPTIONS): string => {
    const value = values[name];
    if (value === undefined) throw new Wrong(`--${name} is missing`);
    return value;
  };
  const number = (name: keyof typeof NUMBERS): number => {
    const { default: standard, min, max } = NUMBERS[name];
    const text = values[name] ?? String(standard);
    if (/^\d{1,9}$/.test(text) && Number(text) >= min && Number(text) <= max) return Number(text);
    throw new Wrong(`--${name} must be a whole number from ${min} to ${max}`);
  };
  const common = {
    kind: "against",
    url: serverUrl("against", needed("against")),
    ca: needed("ca"),
    cert: needed("cert"),
    key: needed("key"),
    slaveId: needed("slave"),
    connections: number("connections"),
    seconds: number("seconds"),
    requests: number("requests"),
  } as const;
  const hasSlave = (["master", "slave-cert", "slave-key", "slave-ca", "decrypt-url"] as const)
    .some((name) => values[name] !== undefined);
  if (!hasSlave) return common;
  const slave = {
    url: serverUrl("decrypt-url", values["decrypt-url"] ?? common.url),
    ca: values["slave-ca"] ?? common.ca,
    cert: needed("slave-cert"),
    key: needed("slave-key"),
    masterId: needed("master"),
  };
  return { ...common, slave };
}

function groupsIn(names: string): Group[] {
  const chosen = names.split(",");
  const unknown = chosen.filter((name) => !(GROUPS as readonly string[]).includes(name));
  if (unknown.length > 0) throw new Wrong(`no group ${unknown.join(", ")}; there are ${GROUPS.join(", ")}`);
  return GROUPS.filter((name) => chosen.includes(name));
}

function serverUrl(option: string, text: string): string {
  const url = URL.parse(text);
  if (url?.protocol !== "https:" || url.search !== "" || url.hash !== "") {
    throw new Wrong(`--${option} must be like https://kme1.example:13000`);
  }
  return url.href.replace(/\/+$/, "");
}
