/** Why clients of a listener are refused. */
import { REFUSAL_REASONS } from "../x509/refusal.ts";

/** `handshake`: the TLS handshake failed. */
export const CLIENT_REFUSALS = [...REFUSAL_REASONS, "handshake", "too_many_connections"] as const;

export type ClientRefusal = typeof CLIENT_REFUSALS[number];

/** A client that was refused. */
export interface RefusedClient {
  readonly reason: ClientRefusal;
  /** One line: who, and why. */
  readonly message: string;
}
