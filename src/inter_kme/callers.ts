/** Checks of a request before its body is read. */
import type { Context } from "hono";
import type { Directory } from "../delivery/directory.ts";
import type { FrontEnv } from "../http/context.ts";
import { HttpProblem } from "../http/problem.ts";
import type { RefusalReason } from "../http/request_observer.ts";

/** The status is 400 as in `qkd_kme_server`. */
class UnknownCaller extends HttpProblem {
  constructor() {
    super(400, "the certificate is not that of a neighbour");
  }

  override get reason(): RefusalReason {
    return "unauthorized";
  }
}

/** @throws HttpProblem */
export function requirePost(c: Context<FrontEnv>): void {
  if (c.req.raw.method !== "POST") throw new HttpProblem(405, "only POST is allowed here", { allow: "POST" });
}

/** @throws HttpProblem when the certificate may not act for any neighbour. */
export function requireNeighbour(c: Context<FrontEnv>, directory: Directory): void {
  if (!directory.mayBeNeighbour(c.env.connection.identity)) throw new UnknownCaller();
}
