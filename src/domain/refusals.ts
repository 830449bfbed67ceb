/** Why a request is not met. The HTTP room turns each into its status code. */

/** One name/value pair of the Error data format's `details` (clause 6.5). */
export type Detail = Readonly<Record<string, unknown>>;

/** A reason that the caller may be told. */
export abstract class Refusal extends Error {
  constructor(message: string, readonly details?: readonly Detail[]) {
    super(message);
  }
}

/** The request cannot be met as it is. */
export class InvalidRequest extends Refusal {
  override name = "InvalidRequest";
}

/** The caller may not have what it asks for. */
export class NotAuthorized extends Refusal {
  override name = "NotAuthorized";
}

/** The same request may be met later. */
export class Unavailable extends Refusal {
  override name = "Unavailable";
}

/** Too few blocks are in stock; more may come. */
export class OutOfKeys extends Unavailable {
  override name = "OutOfKeys";
}
