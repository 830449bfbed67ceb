/** The network file: all KMEs and SAEs of a QKD network, with everything that their certificates depend on. */
import JSON5 from "json5";
import { isIP } from "node:net";
import { z } from "zod";
import type { Mistake } from "../../config/config.ts";
import type { ConfiguredId } from "../../domain/ids.ts";
import { allNames } from "./layout.ts";
import { serialFromHex } from "./random_serial.ts";
import type { KeyType } from "./issue.ts";
import { expected, integer, kindOf } from "../../config/file_schema.ts";
import { formatMistake } from "../../config/findings.ts";
import { nearest } from "../../domain/spelling.ts";
import { errorMessage } from "../../domain/text.ts";
import { isLoopback } from "../../domain/address.ts";
import { formatMember } from "../../domain/member_path.ts";

/** One listener of a KME. */
export interface NetworkInterface {
  /**
   * Host names and IP addresses under which clients reach it; they are what its certificate is valid for.
   * Other KMEs call the first.
   */
  readonly hosts: readonly string[];
  readonly port: number;
  /** Address it listens on. */
  readonly listen: string;
}

export interface NetworkSae {
  readonly id: ConfiguredId;
  /** Name of its files. */
  readonly name: string;
  /** Bytes of the serial number of its certificate; absent: random. */
  readonly serial?: Uint8Array;
}

export interface NetworkKme {
  readonly id: ConfiguredId;
  readonly nickname?: string;
  readonly saesInterface: NetworkInterface;
  readonly kmesInterface: NetworkInterface;
  /** Port of the SKIP interface, on the address and with the certificate of the SAE interface; absent: no SKIP. */
  readonly skipPort?: number;
  readonly debuggingHttpInterface?: string;
  readonly databaseUri?: string;
  readonly deleteKeyFileAfterRead: boolean;
  readonly saes: readonly NetworkSae[];
}

export interface Network {
  /** Organization in all subject names. */
  readonly organization?: string;
  readonly keyType: KeyType;
  readonly caDays: number;
  readonly leafDays: number;
  readonly crlDays: number;
  /** From when new certificates are valid; absent: an hour before they are made. */
  readonly validFrom?: Date;
  readonly pfxPassword: string;
  readonly kmes: readonly NetworkKme[];
  /** Texts of the ids of each two KMEs that share a quantum link. */
  readonly links: readonly (readonly [string, string])[];
}

/** A network file with mistakes; the message has a line for each. */
export class NetworkError extends Error {
  override name = "NetworkError";
  constructor(readonly mistakes: readonly Mistake[]) {
    super(mistakes.map(formatMistake).join("\n"));
  }
}

const MAX_DAYS = 36_500;
/** Two ids make one file name. */
const MAX_ID_LENGTH = 64;

/** An object without other members; its messages are for the person who wrote the file. */
function object<Shape extends z.ZodRawShape>(shape: Shape, what: string) {
  return z.strictObject(shape, {
    error: (issue) =>
      issue.code === "unrecognized_keys"
        ? (issue.keys as string[]).map((name) => unknownMember(name, Object.keys(shape))).join("; ")
        : expected(what).error(issue),
  });
}

function unknownMember(name: string, known: readonly string[]): string {
  const meant = nearest(name, known);
  return `unknown member ${name}; ${meant ? `did you mean ${meant}?` : `known here are ${known.join(", ")}`}`;
}

function text(what: string) {
  return z.string(expected(what));
}

const id = z.union([z.number(), z.string()], expected("an id, which is an integer or a string")).superRefine(
  (value, context) => {
    if (typeof value === "string") {
      if (value.trim() === "" || value.length > MAX_ID_LENGTH) {
        context.addIssue({ code: "custom", message: `must have 1 to ${MAX_ID_LENGTH} characters` });
      }
    } else if (!Number.isInteger(value)) {
      context.addIssue({ code: "custom", message: "must be an integer or a string" });
    } else if (!Number.isSafeInteger(value)) {
      context.addIssue({
        code: "custom",
        message: "is rounded: an integer beyond 2^53 must be written in quotes",
      });
    }
  },
).transform((value): ConfiguredId => ({ text: String(value), integer: typeof value === "number" }));

const host = text("a host name or an IP address").superRefine((value, context) => {
  const label = "[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?";
  if (isIP(value) === 0 && !new RegExp(`^(${label}\\.)*${label}$`, "i").test(value)) {
    context.addIssue({ code: "custom", message: "must be a host name or an IP address, without a port" });
  }
});

const networkInterface = object({
  hosts: z.array(host, expected("an array of host names and IP addresses")).min(
    1,
    "must name at least one host name or IP address",
  ),
  port: integer(1, 65535),
  listen: text("an IP address of this machine, like 0.0.0.0").refine(
    (value) => isIP(value) !== 0,
    "must be an IP address of this machine, like 0.0.0.0",
  )
    .optional(),
}, "an object with hosts and port").transform(({ hosts, port, listen }): NetworkInterface => ({
  hosts: [...new Set(hosts)],
  port,
  listen: listen ?? (hosts.every(isLoopback) ? "127.0.0.1" : "0.0.0.0"),
}));

const sae = object({
  id,
  name: text("a file name").regex(
    /^[A-Za-z0-9][A-Za-z0-9._-]*$/,
    "must be a file name of letters, digits, . _ and -",
  )
    .optional(),
  serial: text("a serial number in hex").transform((value, context) => {
    const serial = serialFromHex(value);
    if (serial !== undefined) return serial;
    context.addIssue({
      code: "custom",
      message: "must be a positive number in hex, at most 20 octets in DER",
    });
    return z.NEVER;
  }).optional(),
}, "an object that describes an SAE").transform((value): NetworkSae => ({
  id: value.id,
  name: value.name ?? `client_${value.id.text}`,
  serial: value.serial,
}));

const kme = object({
  id,
  nickname: text("a name").optional(),
  saes_interface: networkInterface,
  kmes_interface: networkInterface,
  skip_port: integer(1, 65535).optional(),
  debugging_http_interface: text("an address, as in 127.0.0.1:18080").optional(),
  db_uri: text("a database URI, as in sqlite://kme.db").optional(),
  delete_key_file_after_read: z.boolean(expected("true or false")).default(true),
  saes: z.array(sae, expected("an array of SAEs")).default([]),
}, "an object that describes a KME").transform((value): NetworkKme => ({
  id: value.id,
  nickname: value.nickname,
  saesInterface: value.saes_interface,
  kmesInterface: value.kmes_interface,
  skipPort: value.skip_port,
  debuggingHttpInterface: value.debugging_http_interface,
  databaseUri: value.db_uri,
  deleteKeyFileAfterRead: value.delete_key_file_after_read,
  saes: value.saes,
}));

const networkFile = object({
  organization: text("a name").min(1, "is empty; write a name, or leave it out").optional(),
  key_type: z.enum(["P-256", "P-384"], expected('"P-256" or "P-384"')).default("P-256"),
  ca_days: integer(1, MAX_DAYS).default(7300),
  leaf_days: integer(1, MAX_DAYS).default(730),
  crl_days: integer(1, MAX_DAYS).default(365),
  valid_from: z.iso.date("must be a day like 2025-01-31").transform((day) => new Date(day))
    .refine((day) => day.getTime() <= Date.now(), "must not be in the future").optional(),
  pfx_password: text("a password in quotes; it may be empty").default("password"),
  kmes: z.array(kme, expected("an array of KMEs")).min(1, "must name at least one KME"),
  links: z.array(
    z.tuple([id, id], expected("an array of two KME ids")),
    expected("an array of pairs of KME ids"),
  )
    .optional(),
}, "an object with kmes");

/** A network file as it is written. */
export type NetworkFile = z.input<typeof networkFile>;

/**
 * Checks what a network file says.
 * @param file Name shown in mistakes.
 * @throws {NetworkError} with all mistakes.
 */
export function checkNetwork(value: unknown, file = ""): Network {
  // The schema has a message for every mistake; should one be missing, the library's own is not shown.
  const error = ({ input }: { input?: unknown }) => `${kindOf(input)} is wrong here; see certs/README.md`;
  const parsed = networkFile.safeParse(value, { error });
  if (!parsed.success) {
    throw new NetworkError(parsed.error.issues.map((issue) => ({
      file,
      member: formatMember(issue.path),
      message: issue.message,
    })));
  }
  const { organization, key_type, ca_days, leaf_days, crl_days, valid_from, pfx_password, kmes, links } =
    parsed.data;
  const mistakes = [...ambiguities(kmes), ...linkMistakes(kmes, links)];
  if (mistakes.length > 0) throw new NetworkError(mistakes.map((mistake) => ({ file, ...mistake })));
  const ids = kmes.map((kme) => kme.id.text);
  return {
    organization,
    keyType: key_type,
    caDays: ca_days,
    leafDays: leaf_days,
    crlDays: crl_days,
    validFrom: valid_from,
    pfxPassword: pfx_password,
    kmes,
    links: links?.map(([a, b]) => [a.text, b.text] as const) ??
      ids.flatMap((a, i) => ids.slice(i + 1).map((b) => [a, b] as const)),
  };
}

/**
 * Reads a network file.
 * @throws {NetworkError} when it cannot be read or is wrong.
 */
export async function readNetwork(file: string): Promise<Network> {
  let value: unknown;
  try {
    value = JSON5.parse(await Deno.readTextFile(file));
  } catch (error) {
    const message = errorMessage(error);
    throw new NetworkError([{ file, member: "", message: message.replace(/^JSON5: /, "not JSON5: ") }]);
  }
  return checkNetwork(value, file);
}

/** Ids of the KMEs that share a link with this one. */
export function neighboursOf(network: Network, kmeId: string): string[] {
  return network.kmes.map((kme) => kme.id.text).filter((other) =>
    network.links.some(([a, b]) => (a === kmeId && b === other) || (b === kmeId && a === other))
  );
}

/** Id of the neighbour on a shortest route to `target`; `target` itself if it is a neighbour. */
export function firstHop(network: Network, kmeId: string, target: string): string {
  const hops = new Map(neighboursOf(network, kmeId).map((neighbour) => [neighbour, neighbour]));
  // The map grows while it is read: breadth-first search.
  for (const [reached, hop] of hops) {
    if (reached === target) return hop;
    for (const next of neighboursOf(network, reached)) {
      if (next !== kmeId && !hops.has(next)) hops.set(next, hop);
    }
  }
  throw new Error(`KME ${target} cannot be reached from KME ${kmeId}`);
}

type Finding = Omit<Mistake, "file">;

/** Ids, serials, ports of one KME and file names that occur twice. */
function ambiguities(kmes: readonly NetworkKme[]): Finding[] {
  const findings: Finding[] = [];
  const seen = new Map<string, string>();
  const once = (kind: string, text: string, member: string) => {
    const key = `${kind} ${text}`;
    const first = seen.get(key);
    if (first === undefined) seen.set(key, member);
    else findings.push({ member, message: `${kind} ${text} exists already (${first})` });
  };
  kmes.forEach((kme, k) => {
    once("KME", kme.id.text, `kmes[${k}].id`);
    if (kme.saesInterface.port === kme.kmesInterface.port) {
      findings.push({
        member: `kmes[${k}].kmes_interface.port`,
        message: "is the port of saes_interface too",
      });
    }
    if (kme.skipPort === kme.saesInterface.port || kme.skipPort === kme.kmesInterface.port) {
      const other = kme.skipPort === kme.saesInterface.port ? "saes_interface" : "kmes_interface";
      findings.push({ member: `kmes[${k}].skip_port`, message: `is the port of ${other} too` });
    }
    kme.saes.forEach((sae, s) => {
      once("SAE", sae.id.text, `kmes[${k}].saes[${s}].id`);
      if (sae.serial !== undefined) {
        once("serial", `${sae.serial.toHex()} of KME ${kme.id.text}`, `kmes[${k}].saes[${s}].serial`);
      }
    });
  });
  if (findings.length > 0) return findings;
  // Compared as file systems without case do.
  for (const { name, member } of allNames(kmes)) once("file name", name.toLowerCase(), member);
  return findings;
}

function linkMistakes(
  kmes: readonly NetworkKme[],
  links: readonly (readonly [ConfiguredId, ConfiguredId])[] | undefined,
): Finding[] {
  if (links === undefined) return [];
  const findings: Finding[] = [];
  const known = new Set(kmes.map((kme) => kme.id.text));
  links.forEach(([a, b], l) => {
    for (const end of [a, b]) {
      if (!known.has(end.text)) {
        findings.push({ member: `links[${l}]`, message: `there is no KME ${end.text}` });
      }
    }
    if (a.text === b.text) findings.push({ member: `links[${l}]`, message: "must be between two KMEs" });
  });
  if (findings.length > 0) return findings;
  const reached = new Set([kmes[0]!.id.text]);
  for (let before = 0; before < reached.size;) {
    before = reached.size;
    for (const [a, b] of links) {
      if (reached.has(a.text)) reached.add(b.text);
      if (reached.has(b.text)) reached.add(a.text);
    }
  }
  const lost = kmes.filter((kme) => !reached.has(kme.id.text));
  return lost.map((kme) => ({
    member: "links",
    message: `KME ${kme.id.text} cannot be reached from KME ${kmes[0]!.id.text}`,
  }));
}
