/** The answer of `/status` on the console's listener: JSON for the console, `kme status` and scripts. */
import { z } from "zod";

/** ISO 8601 in UTC. */
const instant = z.iso.datetime();

/** The file from which blocks were stored last. */
const ingestionStatusSchema = z.object({
  at: instant,
  /** File name without directory. */
  file: z.string(),
});

/** What became of a key file, in this process. */
const fileStatusSchema = z.object({
  /** File name without directory. */
  file: z.string(),
  at: instant,
  /** Blocks newly stored. */
  stored: z.int().nonnegative(),
  /** Blocks skipped because they had been stored before. */
  known: z.int().nonnegative(),
  /** Whether all of it was ingested. */
  complete: z.boolean(),
  /** Why it could not be read or was refused. */
  error: z.string().nullable(),
});

const unmatchedFileSchema = z.object({
  /** File name without directory. */
  name: z.string(),
  /** Blocks that only this KME has. */
  here: z.int().nonnegative(),
  /** Blocks that only the other end has. */
  there: z.int().nonnegative(),
});

const deviceStatusSchema = z.object({
  /** Host and port. */
  device: z.string(),
  /** As the last request found out; null: there was none yet. */
  up: z.boolean().nullable(),
  since: instant.nullable(),
  /** What keeps keys from coming; null: nothing. */
  problem: z.string().nullable(),
  /** Keys in the device's own stock; null: not known. */
  stock: z.int().nonnegative().nullable(),
  /** Whether this KME requests keys from it; otherwise the other KME requests keys from its own device, and this one fetches them. */
  asks: z.boolean(),
  /** Blocks that came into stock from it in the last minute. */
  lastMinute: z.int().nonnegative(),
  /** Blocks that wait for the confirmation of the other end. */
  unconfirmed: z.int().nonnegative(),
});

const linkStatusSchema = z.object({
  /** The KME at the other end; this KME's own id for keys between its own SAEs. */
  kme: z.string(),
  /** Free blocks of 256 bits; null: the database does not answer. */
  free: z.int().nonnegative().nullable(),
  /** Limit of free blocks. */
  max: z.int().positive(),
  /** Whether it has blocks, or had blocks or requests before. A pool that is not used may be empty without harm. */
  used: z.boolean(),
  /** Blocks of this KME that the other end does not have; absent: not known. */
  unmatched: z.int().nonnegative().optional(),
  /** When the two ends last compared their blocks; null: not yet, or the other end does not tell what it has. */
  comparedAt: instant.nullable().optional(),
  /** Since when one of `unmatchedFiles` has differed; null: there are none. */
  unmatchedSince: instant.nullable().optional(),
  /** Files of which one end has had blocks for some seconds that the other does not have, the largest differences first. */
  unmatchedFiles: z.array(unmatchedFileSchema).optional(),
  /** Of this process; null: nothing was ingested since it started. */
  lastIngestion: ingestionStatusSchema.nullable(),
  /** The latest key files, newest first. */
  files: z.array(fileStatusSchema),
  /** The link's QKD device; absent: there is none. */
  device: deviceStatusSchema.optional(),
  /** Key files ingested that were ingested into another database before: their keys may be given out twice. */
  servedAgain: z.int().nonnegative(),
});

const peerStatusSchema = z.object({
  kme: z.string(),
  /** As the last message or probe found out; null: there was none yet. */
  up: z.boolean().nullable(),
  /** Since when. */
  since: instant.nullable(),
  /** Of the last failure; kept when the peer is up again. */
  lastError: z.string().nullable(),
});

const certificateStatusSchema = z.object({
  /** Member of the configuration that names the file, like `this_kme.saes_https_interface.server_cert_path`. */
  member: z.string(),
  use: z.enum(["server", "client CA", "client", "server CA"]),
  subject: z.string(),
  /** Hex. */
  serial: z.string(),
  notBefore: instant,
  notAfter: instant,
  /** Whole days until `notAfter`, negative afterwards. */
  daysLeft: z.int(),
});

const saeStatusSchema = z.object({
  sae: z.string(),
  /** When it sent its last request; null: not known. */
  lastSeen: instant.nullable(),
  /** Whole days until the certificate of its last connection expires; null: not seen since the start. */
  certificateDaysLeft: z.int().nullable(),
});

const limitedSchema = z.object({
  /** The master; at the slave's KME it may be an SAE of another KME. */
  sae: z.string(),
  /** `max_bits_per_second`, `max_waiting_keys` or `reserve_share`. */
  limit: z.string(),
  /** Requests that were refused. */
  count: z.int().positive(),
});

const auditStatusSchema = z.object({
  /** Number of the chain that this process writes. */
  chain: z.int().positive(),
  /** Number of the last durable record. */
  sequence: z.int().nonnegative(),
  /** Its SHA-256, hexadecimal. */
  head: z.string(),
  /** Why nothing can be recorded, so that no key is given out; null: it can. */
  failure: z.string().nullable(),
  /** Records dropped since the start, none of a key that was given out. */
  dropped: z.int().nonnegative(),
});

export const problemSchema = z.object({
  severity: z.enum(["warning", "error"]),
  /** The link that is affected, by its KME; null: all of them. */
  link: z.string().nullable(),
  what: z.string(),
  since: instant,
});

export const kmeStatusSchema = z.object({
  kme: z.string(),
  nickname: z.string(),
  version: z.string(),
  /** Whether this KME can deliver keys, given blocks and a peer; `/health/ready` has it as a status code. */
  ready: z.boolean(),
  /** Why it is not ready. */
  reason: z.string().nullable(),
  /** Since when it is ready, or not. */
  since: instant,
  delivery: z.object({
    /** Which of the links in use can deliver keys now. */
    links: z.enum(["all", "some", "none"]),
    /** What keeps keys from being delivered, or soon will; errors first. */
    problems: z.array(problemSchema),
  }),
  /** Seconds since the start. */
  uptime: z.number().nonnegative(),
  /** This KME's own pool first, then one link a neighbour. */
  links: z.array(linkStatusSchema),
  /** KMEs without a link, and the neighbour that leads to each. */
  relayed: z.array(z.object({ kme: z.string(), through: z.string() })),
  /** SAEs of this KME. */
  saes: z.array(saeStatusSchema),
  /** Blocks that became part of no key, since the start. */
  burnt: z.int().nonnegative(),
  /** Keys that a slave of this KME has not fetched yet; null: not known. */
  keysWaiting: z.int().nonnegative().nullable(),
  peers: z.array(peerStatusSchema),
  certificates: z.array(certificateStatusSchema),
  /** Whether the bits of blocks and keys are encrypted in the database. */
  storeEncrypted: z.boolean(),
  /** Shannon entropy of all blocks ever stored, bits per byte; null: not known. */
  entropy: z.number().nullable(),
  /** Limits of the configuration that requests have reached since the start; absent: none. */
  limited: z.array(limitedSchema).optional(),
  /** Absent: there is no audit log. */
  audit: auditStatusSchema.optional(),
});

export type SaeStatus = z.infer<typeof saeStatusSchema>;
export type Problem = z.infer<typeof problemSchema>;
export type DeviceStatusOfLink = z.infer<typeof deviceStatusSchema>;
export type LinkStatus = z.infer<typeof linkStatusSchema>;
export type PeerStatus = z.infer<typeof peerStatusSchema>;
export type CertificateStatus = z.infer<typeof certificateStatusSchema>;
export type KmeStatus = z.infer<typeof kmeStatusSchema>;
