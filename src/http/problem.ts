/** Turns errors into HTTP answers, for all interfaces. */
import {
  Damaged,
  type Detail,
  InvalidRequest,
  LimitReached,
  NotAuthorized,
  NotRecorded,
  OutOfKeys,
  Refusal,
  Unavailable,
} from "../domain/refusals.ts";
import { log } from "../log.ts";
import { StoreUnavailable } from "../domain/store_errors.ts";
import type { RefusalReason } from "./request_observer.ts";

/** Status codes of errors; those of clause 5 and those that HTTP itself defines. */
export type ProblemStatus = 400 | 401 | 404 | 405 | 413 | 415 | 500 | 503;

/** An error of the HTTP request itself. */
export class HttpProblem extends Error {
  override name = "HttpProblem";
  constructor(
    readonly status: ProblemStatus,
    message: string,
    readonly headers: Readonly<Record<string, string>> = {},
  ) {
    super(message);
  }

  get reason(): RefusalReason {
    return this.status === 401 ? "unauthorized" : "http";
  }
}

export interface Problem {
  readonly status: ProblemStatus;
  /** For the metrics; not part of the answer. */
  readonly reason: RefusalReason;
  readonly message: string;
  readonly details?: readonly Detail[];
  readonly headers?: Readonly<Record<string, string>>;
}

/** The answer to an error. It contains nothing about the inside of the program. */
export function toProblem(error: unknown): Problem {
  if (error instanceof HttpProblem) return error;
  if (error instanceof Refusal) {
    const [status, reason] = kindOf(error);
    const headers = error instanceof LimitReached
      ? { "retry-after": String(error.retryAfterSeconds) }
      : undefined;
    return { status, reason, message: error.message, details: error.details, headers };
  }
  if (error instanceof StoreUnavailable) return { status: 503, reason: "database", message: error.message };
  log("http").error("request failed: {error}", { error });
  return { status: 503, reason: "internal", message: "internal error" };
}

function kindOf(error: Refusal): [ProblemStatus, RefusalReason] {
  if (error instanceof InvalidRequest) return [400, "invalid"];
  if (error instanceof NotAuthorized) return [401, "unauthorized"];
  if (error instanceof Damaged) return [503, "database"];
  if (error instanceof OutOfKeys) return [503, "out_of_keys"];
  if (error instanceof LimitReached) return [503, "limit"];
  if (error instanceof NotRecorded) return [503, "audit"];
  if (error instanceof Unavailable) return [503, "peer"];
  return [503, "internal"];
}
