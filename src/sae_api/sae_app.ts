/** The SAE interface: ETSI GS QKD 014 V1.1.1, clauses 5 and 6, as Hono routes. */
import { Hono } from "hono";
import type { Sae } from "../domain/network.ts";
import type { Delivery } from "../delivery/delivery.ts";
import type { Directory } from "../delivery/directory.ts";
import { InvalidRequest } from "../domain/refusals.ts";
import { overwrite } from "../domain/bytes.ts";
import { formatKeyId } from "../domain/block.ts";
import { idToJson } from "../domain/ids.ts";
import { type Key, KeySize } from "../domain/key.ts";
import { isBlank, readBody } from "../http/body.ts";
import type { FrontEnv } from "../http/context.ts";
import type { SaeRequestObserver } from "../http/request_observer.ts";
import {
  allow,
  checkParameters,
  parameters,
  type SaeContext,
  saeRequests,
  withoutBody,
} from "../http/sae_requests.ts";
import { tolerantPath } from "../http/path.ts";
import { answerJson } from "../http/json_answer.ts";
import { HttpProblem } from "../http/problem.ts";
import { parseKeyIdParameter, parseKeyIds, parseKeyRequest } from "./requests.ts";

export interface SaeAppOptions {
  readonly delivery: Delivery;
  readonly directory: Directory;
  readonly observer?: SaeRequestObserver;
}

export function saeApp({ delivery, directory, observer }: SaeAppOptions): Hono<FrontEnv> {
  const app = new Hono<FrontEnv>({ getPath: tolerantPath });

  const { identify, answerErrorsOf } = saeRequests({
    directory,
    observer,
    hidesPath: (path) => /^\/api\/v1\/keys(\/|$)/.test(path),
  });
  answerErrorsOf(app);

  // One route for all: Hono's fast router does not support overlapping routes. No middleware: it takes as long as the route.
  app.all("/api/v1/keys/:sae/:resource", (c) => {
    const sae = identify(c);
    const resource = c.req.param("resource");
    if (resource === "total" && c.req.param("sae") === "entropy") return entropy(c);
    switch (resource) {
      case "status":
        return status(c, sae);
      case "enc_keys":
        return encKeys(c, sae);
      case "dec_keys":
        return decKeys(c, sae);
      default:
        return c.notFound();
    }
  });

  app.all("/api/v1/sae/info/me", (c) => {
    allow(c, ["GET"]);
    withoutBody(c);
    const sae = directory.saeOf(c.env.connection.identity);
    if (sae === undefined) throw new HttpProblem(404, "the client certificate belongs to no SAE of this KME");
    return answer(c, { SAE_ID: idToJson(sae.id), KME_ID: idToJson(directory.thisKme) });
  });

  return app;

  async function entropy(c: SaeContext): Promise<Response> {
    allow(c, ["GET"]);
    withoutBody(c);
    return answer(c, { total_entropy: await delivery.totalEntropy() });
  }

  async function status(c: SaeContext, sae: Sae): Promise<Response> {
    allow(c, ["GET", "HEAD"]);
    checkParameters(parameters(c), []);
    withoutBody(c);
    const status = await delivery.status(sae, saeId(c, "slave"));
    return answer(c, {
      source_KME_ID: status.sourceKme,
      target_KME_ID: status.targetKme,
      master_SAE_ID: status.master,
      slave_SAE_ID: status.slave,
      key_size: status.keySize,
      stored_key_count: status.storedKeyCount,
      max_key_count: status.maxKeyCount,
      max_key_per_request: status.maxKeyPerRequest,
      max_key_size: status.maxKeySize,
      min_key_size: status.minKeySize,
      max_SAE_ID_count: status.maxSaeIdCount,
    });
  }

  async function encKeys(c: SaeContext, sae: Sae): Promise<Response> {
    allow(c, ["GET", "POST"]);
    const defaults = { size: KeySize.default };
    if (c.req.method === "GET") withoutBody(c);
    const request = parseKeyRequest(
      parameters(c),
      c.req.method === "GET" ? "" : await jsonBody(c),
      defaults,
    );
    const begin = performance.now();
    const keys = await delivery.getKeys(sae, saeId(c, "slave"), request, c.env.connection);
    observer?.answered("enc_keys", performance.now() - begin);
    return answerJson(c, container(keys));
  }

  async function decKeys(c: SaeContext, sae: Sae): Promise<Response> {
    allow(c, ["GET", "POST"]);
    if (c.req.method === "GET") withoutBody(c);
    const ids = c.req.method === "GET"
      ? parseKeyIdParameter(parameters(c))
      : parseKeyIds(parameters(c), await jsonBody(c));
    const begin = performance.now();
    const keys = await delivery.getKeysWithIds(sae, saeId(c, "master"), ids, c.env.connection);
    observer?.answered("dec_keys", performance.now() - begin);
    return answerJson(c, container(keys));
  }
}

/** `application/json`, and types like `application/problem+json`. */
const JSON_TYPE = /^\s*application\/(?:[\w.-]+\+)?json\s*(?:;|$)/i;

/** What programs such as curl, and `fetch`, say if their user names no type: the body may be JSON all the same. */
const DEFAULT_TYPE = /^\s*(?:application\/x-www-form-urlencoded|text\/plain)\s*(?:;|$)/i;

/** @throws HttpProblem 415 for a body of another type. */
async function jsonBody(c: SaeContext): Promise<string> {
  const body = await readBody(c.req.raw);
  c.env.connection.requestComplete();
  const type = c.req.raw.headers.get("content-type");
  // A body without a type is read as JSON.
  if (isBlank(body) || type === null || JSON_TYPE.test(type)) return body;
  if (DEFAULT_TYPE.test(type) && /^\s*\{/.test(body)) return body;
  throw new HttpProblem(415, "the body must be application/json");
}

function saeId(c: SaeContext, parameter: "slave" | "master"): string {
  const raw = c.req.path.split("/", 5)[4] ?? "";
  if (!raw.includes("%")) return raw;
  try {
    return decodeURIComponent(raw);
  } catch {
    throw new InvalidRequest(`${parameter}_SAE_ID in the URL is not percent-encoded correctly`);
  }
}

/** Key container data format, clause 6.3, as JSON. Overwrites the bits of the keys: this memory is not needed any more. */
function container(keys: readonly Key[]): string {
  // None of it needs an escape, so the text is made without objects.
  const items = keys.map(({ id, bits }) => `{"key_ID":"${formatKeyId(id)}","key":"${bits.toBase64()}"}`);
  overwrite(keys);
  return `{"keys":[${items.join()}]}`;
}

function answer(c: SaeContext, value: unknown): Response {
  return answerJson(c, JSON.stringify(value));
}
