/** What both interfaces for SAEs have in common: who is calling, how errors are answered, rules for methods and bodies. */
import type { Context, Hono } from "hono";
import type { Sae } from "../domain/network.ts";
import { InvalidRequest } from "../domain/refusals.ts";
import { nearest } from "../domain/spelling.ts";
import type { FrontConnection } from "../tls/front.ts";
import type { FrontEnv } from "./context.ts";
import { answerJson } from "./json_answer.ts";
import { HttpProblem, toProblem } from "./problem.ts";
import { cut, describeRequest, type RefusalReason, type SaeRequestObserver } from "./request_observer.ts";

type Identity = FrontConnection["identity"];

export type SaeContext = Context<FrontEnv>;

/** Which SAE a certificate belongs to. */
export interface SaeNames {
  /** @throws NotAuthorized when it identifies several. */
  saeOf(identity: Identity): Sae | undefined;
  /** For reports. */
  saeName(identity: Identity): string;
}

export interface SaeRequestsOptions {
  readonly directory: SaeNames;
  readonly observer?: SaeRequestObserver;
  /** Whether an unknown caller gets 401, not 404, for a path that does not exist. */
  readonly hidesPath: (path: string) => boolean;
}

export interface SaeRequests {
  /**
   * The SAE that is calling; to be called before anything else of the request is checked.
   *
   * @throws HttpProblem 401 for a certificate of no SAE of this KME.
   */
  identify(c: SaeContext): Sae;
  /** Answers errors and unknown paths of an application, and reports them. */
  answerErrorsOf(app: Hono<FrontEnv>): void;
}

export function saeRequests({ directory, observer, hidesPath }: SaeRequestsOptions): SaeRequests {
  const refused = (c: SaeContext, status: number, reason: RefusalReason, message: string) =>
    observer?.refused({
      status,
      reason,
      caller: directory.saeName(c.env.connection.identity),
      client: c.env.connection,
      request: describeRequest(c.req.raw.method, c.req.path),
      message: cut(message),
    });
  const identify = (c: SaeContext): Sae => {
    const sae = directory.saeOf(c.env.connection.identity);
    if (sae === undefined) throw new HttpProblem(401, "the client certificate belongs to no SAE of this KME");
    observer?.seen(sae.id.text, c.env.connection.identity.notAfter);
    return sae;
  };
  return {
    identify,
    answerErrorsOf: (app) => {
      app.onError((error, c) => {
        const { status, reason, message, details, headers } = toProblem(error);
        refused(c, status, reason, message);
        return answerJson(c, JSON.stringify({ message, details }), status, headers);
      });
      app.notFound((c) => {
        if (hidesPath(c.req.path)) identify(c);
        refused(c, 404, "http", "no such resource");
        return answerJson(c, JSON.stringify({ message: "no such resource" }), 404);
      });
    },
  };
}

/** Hono treats HEAD as GET, but HEAD must not consume keys. */
export function allow(c: SaeContext, methods: readonly string[]): void {
  if (!methods.includes(c.req.raw.method)) {
    throw new HttpProblem(405, `${c.req.raw.method} is not allowed here`, { allow: methods.join(", ") });
  }
}

/** Refuses a GET with a body: its content would be ignored. */
export function withoutBody(c: SaeContext): void {
  // Deno does not give access to the body of a GET, only to its headers.
  const { headers } = c.req.raw;
  if (headers.has("transfer-encoding") || Number(headers.get("content-length") ?? 0) !== 0) {
    throw new InvalidRequest(`${c.req.raw.method} takes no body`);
  }
  c.env.connection.requestComplete();
}

const NO_PARAMETERS = new URLSearchParams();

/** The parameters in the URL. */
export function parameters(c: SaeContext): URLSearchParams {
  const mark = c.req.url.indexOf("?");
  return mark < 0 ? NO_PARAMETERS : new URLSearchParams(c.req.url.slice(mark + 1));
}

/** @throws InvalidRequest for any parameter that is not named, or that is repeated. */
export function checkParameters(parameters: URLSearchParams, names: readonly string[]): void {
  const seen = new Set<string>();
  for (const name of parameters.keys()) {
    if (!names.includes(name)) {
      const like = nearest(name, names);
      throw new InvalidRequest(
        `${name}: is not a parameter of this request${like === undefined ? "" : `; did you mean ${like}?`}`,
      );
    }
    if (seen.has(name)) throw new InvalidRequest(`${name}: is given more than once`);
    seen.add(name);
  }
}
