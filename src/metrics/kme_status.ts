/** What `/status` on the console's listener says about a running KME: JSON for the console, `kme status` and scripts. */
import { z } from "zod";

/** ISO 8601 in UTC. */
const instant = z.iso.datetime();

/** Blocks that came from a key file. */
export const ingestionStatusSchema = z.object({
  at: instant,
  /** File name without directory. */
  file: z.string(),
});

export const linkStatusSchema = z.object({
  /** The KME at the other end; this KME's own id for keys between its own SAEs. */
  kme: z.string(),
  /** Free blocks of 256 bits; null: the database does not answer. */
  free: z.int().nonnegative().nullable(),
  /** Cap of free blocks. */
  max: z.int().positive(),
  /** Of this process; null: nothing was taken up since it started. */
  lastIngestion: ingestionStatusSchema.nullable(),
});

export const peerStatusSchema = z.object({
  kme: z.string(),
  /** As the last message found out; null: no message was sent yet. */
  up: z.boolean().nullable(),
  /** Since when it is so. */
  since: instant.nullable(),
  /** Kept when the peer is up again. */
  lastError: z.string().nullable(),
});

export const certificateStatusSchema = z.object({
  /** Member of the configuration that names the file, like `this_kme.saes_https_interface.server_cert_path`. */
  member: z.string(),
  use: z.enum(["server", "client CA", "client", "server CA"]),
  subject: z.string(),
  /** Hex. */
  serial: z.string(),
  notBefore: instant,
  notAfter: instant,
  /** Whole days until `notAfter`, negative when it is over. */
  daysLeft: z.int(),
});

export const kmeStatusSchema = z.object({
  kme: z.string(),
  nickname: z.string(),
  version: z.string(),
  /** Whether requests of SAEs can be answered; `/health/ready` has it as a status code. */
  ready: z.boolean(),
  /** Why it is not ready. */
  reason: z.string().nullable(),
  /** Seconds since the start. */
  uptime: z.number().nonnegative(),
  /** This KME's own pool first, then one link a neighbour. */
  links: z.array(linkStatusSchema),
  /** Keys that a slave of this KME has not fetched yet; null: not known. */
  keysWaiting: z.int().nonnegative().nullable(),
  peers: z.array(peerStatusSchema),
  certificates: z.array(certificateStatusSchema),
  /** Shannon entropy of all blocks ever stored, bits per byte; null: not known. */
  entropy: z.number().nullable(),
});

export type LinkStatus = z.infer<typeof linkStatusSchema>;
export type PeerStatus = z.infer<typeof peerStatusSchema>;
export type CertificateStatus = z.infer<typeof certificateStatusSchema>;
export type KmeStatus = z.infer<typeof kmeStatusSchema>;
