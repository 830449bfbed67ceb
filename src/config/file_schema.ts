/**
 * The members of a configuration file: names, types, defaults, bounds. Rules between members are in `rules.ts`, what
 * concerns files in `referenced_files.ts`.
 */
import { z } from "zod";
import { parseHostPort } from "./address_text.ts";
import { parseDatabaseUri } from "./database_uri.ts";
import { parseDeviceUrl } from "./device_url.ts";
import { parseId } from "./id_text.ts";
import type { Parsed } from "../domain/parsed.ts";
import { parseFingerprint } from "./fingerprint_text.ts";
import { parseSerial } from "./serial_text.ts";
import { KeySize, MAX_REQUEST_BLOCKS } from "../domain/key.ts";
import { hasControlCharacters } from "../domain/text.ts";
import type { CertificateSelector } from "../x509/certificate_selector.ts";

/** Says what kind of value is there and what should be, never the value: it may be a password. */
export function expected(what: string) {
  return {
    error: ({ input }: { input?: unknown }) =>
      input === undefined ? `is missing; write ${what}` : `${kindOf(input)} is wrong here; write ${what}`,
  };
}

/** `a string`, `an array` and so on. */
export function kindOf(value: unknown): string {
  if (value === undefined) return "nothing";
  if (value === null) return "null";
  if (Array.isArray(value)) return "an array";
  if (typeof value === "number") return Number.isFinite(value) ? "a number" : String(value);
  return typeof value === "object" ? "an object" : `a ${typeof value}`;
}

/** Turns a parser of this program into a step of a schema. */
function parseWith<In, Out>(parse: (value: In) => Parsed<Out>) {
  return (value: In, context: z.RefinementCtx): Out => {
    const parsed = parse(value);
    if ("value" in parsed) return parsed.value;
    context.addIssue({ code: "custom", message: parsed.problem });
    return z.NEVER;
  };
}

/** A member that may be absent; like the Rust KME, `null` means absent. */
function optional<T extends z.ZodType>(schema: T) {
  return schema.nullish().transform((value) => value ?? undefined);
}

function withDefault<T extends number | boolean>(schema: z.ZodType<T, T>, value: NoInfer<T>) {
  return z.nullable(schema).default(value as never).transform((given) => given ?? value);
}

function withoutUndefined<T extends object>(object: T): Partial<T> {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as Partial<T>;
}

export function integer(min: number, max: number): z.ZodType<number, number> {
  const right = `an integer from ${min} to ${max}`;
  const outside = {
    error: ({ input }: { input?: unknown }) => `${input} is out of bounds; write ${right}`,
  };
  return z.int(expected(right)).min(min, outside).max(max, outside);
}

/** Bits. Keys of the default size can always be delivered. */
function keySize(min: number, max: number) {
  return integer(min, max).refine((bits) => bits % 8 === 0, "is not a multiple of 8; write a multiple of 8");
}

function text(what: string) {
  return z.string(expected(what)).min(1, `is empty; write ${what}`);
}

function path(what: string) {
  return text(`the path of ${what}`).refine(
    (path) => !path.includes("\0"),
    "a path cannot contain a null character; leave it out",
  );
}

const id = z.union([z.string(), z.number()], expected("an id, which is an integer or a string"))
  .transform(parseWith(parseId));
const address = z.string(expected("an address, as in 127.0.0.1:3000")).transform(parseWith(parseHostPort));
const serial = z.union(
  [z.array(z.unknown()), z.string()],
  expected('the serial number of a certificate, as in [0x0a, 0xf1] or "0A:F1"'),
).transform(parseWith(parseSerial));
const fingerprint = z.string(expected("the SHA-256 of a certificate, 64 hexadecimal digits"))
  .transform(parseWith(parseFingerprint));
const boolean = z.boolean(expected("true or false"));
/** It is printed in log lines. */
const nickname = text("a name").refine(
  (name) => !hasControlCharacters(name),
  "the name contains line breaks or other control characters; leave them out",
);

const selector = z.strictObject({
  subject_cn: optional(text("a common name")),
  san_dns: optional(text("a DNS name").transform((name) => name.toLowerCase())),
  san_uri: optional(text("a URI")),
  san_email: optional(text("an e-mail address")),
  fingerprint_sha256: optional(fingerprint),
  serial: optional(serial),
  issuer_cn: optional(text("the common name of a CA")),
  issuer_sha256: optional(fingerprint),
}, expected('an object that says what the certificate has, as in { subject_cn: "name" }'))
  .transform((members): CertificateSelector =>
    withoutUndefined({
      subjectCn: members.subject_cn,
      sanDns: members.san_dns,
      sanUri: members.san_uri,
      sanEmail: members.san_email,
      fingerprint: members.fingerprint_sha256,
      serial: members.serial,
      issuerCn: members.issuer_cn,
      issuerFingerprint: members.issuer_sha256,
    })
  );
const selectors = optional(
  z.array(selector, expected('an array of certificates, as in [{ subject_cn: "name" }]')),
);

const httpsInterface = (who: string) =>
  z.strictObject({
    listen_address: address,
    ca_client_cert_path: path(`the CA certificate (PEM) that issues the certificates of ${who}`),
    server_cert_path: path("the server's certificate (PEM)"),
    server_key_path: path("the private key (PEM) of the server's certificate"),
    client_crl_path: optional(path("a file with certificate revocation lists")),
  }, expected("an object with listen_address, ca_client_cert_path, server_cert_path and server_key_path"));

const storeEncryption = z.strictObject({
  key_file: optional(path("a file with the master key")),
  key_command: optional(
    z.array(text("a program or an argument"), expected('a program and its arguments, as in ["/usr/bin/key"]'))
      .min(1, 'is empty; write a program and its arguments, as in ["/usr/bin/key"]'),
  ),
}, expected('an object that says where the master key is, as in { key_file: "store.key" }'))
  .refine(
    (members) => (members.key_file === undefined) !== (members.key_command === undefined),
    "must have key_file or key_command, and not both; remove one or write one",
  );

const auditLog = z.strictObject({
  directory: path("a directory for the audit log"),
  rotate_mib: withDefault(integer(1, 4096), 64),
  keep_days: optional(integer(1, 36_500)),
}, expected('an object with the directory of the audit log, as in { directory: "audit" }'));

const reserveShare = z.strictObject({
  kme: id,
  share: z.number(expected("a share of max_key_count, more than 0 and less than 1")).gt(
    0,
    "must be more than 0; write a share, as in 0.1",
  ).lt(1, "must be less than 1; write a share, as in 0.1"),
  saes: z.array(id, expected("an array of ids of SAEs")),
}, expected("an object with kme, share and saes"));

const thisKme = z.strictObject({
  id,
  nickname: optional(nickname),
  db_uri: z.string(expected("a database URI, as in sqlite://kme.db")).transform(parseWith(parseDatabaseUri)),
  delete_key_file_after_read: boolean,
  key_directory_to_watch: path("a directory"),
  saes_https_interface: httpsInterface("SAEs"),
  kmes_https_interface: httpsInterface("other KMEs"),
  skip_https_interface: optional(httpsInterface("SAEs")),
  debugging_http_interface: optional(address),
  max_key_per_request: withDefault(integer(1, MAX_REQUEST_BLOCKS), 128),
  max_key_count: withDefault(integer(1, 1_000_000_000), 1_000_000),
  key_lifetime_seconds: withDefault(integer(1, 315_360_000), 86_400),
  answer_repeat_seconds: withDefault(integer(0, 300), 0),
  max_SAE_ID_count: withDefault(integer(0, 1000), 8),
  min_key_size: withDefault(keySize(KeySize.min, KeySize.default), KeySize.min),
  max_key_size: withDefault(keySize(KeySize.default, KeySize.max), KeySize.max),
  inter_kme_timeout_seconds: withDefault(
    z.number(expected("seconds, more than 0 and at most 3600"))
      .gt(0, "must be more than 0; write seconds, as in 10 or 0.5").max(
        3600,
        "is more than an hour; write at most 3600",
      ),
    10,
  ),
  tls_min_version: z.nullable(
    z.enum(["1.2", "1.3"], { error: () => 'write "1.2" or "1.3"' }),
  ).default("1.2").transform((value) => value ?? "1.2"),
  neighbour_probe_seconds: withDefault(integer(1, 3600), 15),
  key_file_quiet_seconds: withDefault(integer(0, 86_400), 60),
  key_file_health: z.nullable(
    z.enum(["refuse", "warn", "off"], { error: () => 'write "refuse", "warn" or "off"' }),
  ).default("refuse").transform((value) => value ?? "refuse"),
  reingest_served_files: withDefault(boolean, false),
  lease_seconds: withDefault(integer(2, 3600), 15),
  audit_log: optional(auditLog),
  reserve_share: optional(
    z.array(reserveShare, expected("an array of shares, as in [{ kme: 2, share: 0.1, saes: [1] }]")),
  ),
  store_encryption: optional(storeEncryption),
}, expected("an object that describes this KME"));

const deviceSae = z.union(
  [z.string(), z.number()],
  expected("the id of an SAE, which is an integer or a string"),
)
  .transform(parseWith(parseId)).transform(({ text }) => text);

const keySource = z.strictObject({
  kind: z.enum(["etsi014"], { error: () => 'write "etsi014"' }),
  url: z.string(expected('the URL of the device, as in "https://qkd1.example:8443"'))
    .transform(parseWith(parseDeviceUrl)),
  ca_cert_path: optional(path("a CA certificate (PEM)")),
  crl_path: optional(path("a file with certificate revocation lists")),
  https_client_authentication_certificate: path("a .pfx, .p12 or .pem file"),
  https_client_authentication_certificate_password: optional(
    z.string(expected("a password in quotes; it may be empty")),
  ),
  local_SAE_id: deviceSae,
  remote_SAE_id: deviceSae,
  key_size: withDefault(
    integer(256, 65_536).refine((size) => size % 8 === 0, "must be a multiple of 8; write bits, as in 256"),
    256,
  ),
  keys_per_request: withDefault(integer(1, 10_000), 128),
  target_stock: withDefault(integer(1, 1_000_000_000), 10_000),
  low_stock: optional(integer(1, 1_000_000_000)),
  poll_seconds: withDefault(integer(1, 3600), 10),
  direction: optional(z.enum(["this", "other", "both"], { error: () => 'write "this", "other" or "both"' })),
}, expected("an object that describes the QKD device, with kind, url and others"));

const otherKme = z.strictObject({
  id,
  key_directory_to_watch: optional(path("a directory")),
  key_source: optional(keySource),
  inter_kme_bind_address: optional(address),
  ignore_system_proxy_settings: withDefault(boolean, false),
  https_client_authentication_certificate: optional(path("a .pfx, .p12 or .pem file")),
  https_client_authentication_certificate_password: optional(
    z.string(expected("a password in quotes; it may be empty")),
  ),
  inter_kme_ca_cert_path: optional(path("a CA certificate (PEM)")),
  inter_kme_crl_path: optional(path("a file with certificate revocation lists")),
  https_client_certificate_serial: optional(serial),
  certificates: selectors,
  reached_through: optional(id),
}, expected("an object that describes another KME"));

const sae = z.strictObject({
  id,
  kme_id: id,
  https_client_certificate_serial: optional(serial),
  certificates: selectors,
  may_reach: optional(z.array(id, expected("an array of ids of SAEs"))),
  max_bits_per_second: optional(integer(1, 1_000_000_000_000)),
  max_waiting_keys: optional(integer(1, 1_000_000_000)),
}, expected("an object that describes an SAE"));

/** A whole configuration file. */
export const configSchema = z.strictObject({
  this_kme: thisKme,
  other_kmes: z.array(otherKme, expected("an array of other KMEs; it may be empty, []")),
  saes: z.array(sae, expected("an array of SAEs; it may be empty, []")),
}, expected("an object with this_kme, other_kmes and saes"));

/** The content of a correct file after parsing. */
export type ConfigFile = z.output<typeof configSchema>;
