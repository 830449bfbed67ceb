/** Errors for requests that are not met. `http/` turns each into a status code. */

/** One name/value pair of the Error data format's `details` (clause 6.5). */
export type Detail = Readonly<Record<string, unknown>>;

/** An error whose message is sent to the caller. */
export abstract class Refusal extends Error {
  constructor(message: string, readonly details?: readonly Detail[]) {
    super(message);
  }
}

/** The request is invalid, or cannot be met without a change. */
export class InvalidRequest extends Refusal {
  override name = "InvalidRequest";
}

/** The caller may not have what it asks for. */
export class NotAuthorized extends Refusal {
  override name = "NotAuthorized";
}

/** The same request may succeed later. */
export class Unavailable extends Refusal {
  override name = "Unavailable";
}

/** Too few blocks are in stock; more may be ingested. */
export class OutOfKeys extends Unavailable {
  override name = "OutOfKeys";
}

/** A limit that the configuration sets for an SAE; a label of the metrics. */
export type Limit = "max_bits_per_second" | "max_waiting_keys" | "reserve_share";

/** A limit is reached; later the same request may succeed. */
export class LimitReached extends Unavailable {
  override name = "LimitReached";
  /** @param retryAfterSeconds a whole number, at least 1. */
  constructor(message: string, readonly limit: Limit, readonly retryAfterSeconds: number) {
    super(message, [{ limit }]);
  }
}

/** The stored bits of a key are not those that were stored. */
export class Damaged extends Refusal {
  override name = "Damaged";
}

/** The audit log cannot be written, and without a record no key is given out. */
export class NotRecorded extends Unavailable {
  override name = "NotRecorded";
  /** @param reason for the operator; the caller is not told. */
  constructor(readonly reason: string) {
    super("the audit log cannot be written");
  }
}
