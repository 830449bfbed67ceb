/** The inter-KME interface, compatible with `qkd_kme_server`: plain text answers, status 200 or a refusal. */
import { type Context, Hono } from "hono";
import { z } from "zod";
import type { ActivationResult } from "../delivery/delivery.ts";
import type { StockAgreement } from "../delivery/stock_agreement.ts";
import type { KmeId } from "../domain/ids.ts";
import { parseKeyId } from "../domain/block.ts";
import { parseExactJson } from "../domain/exact_json.ts";
import { PEER_PATHS } from "./wire.ts";
import { readBody } from "../http/body.ts";
import type { FrontEnv } from "../http/context.ts";
import { answerJson } from "../http/json_answer.ts";
import { cut, describeRequest, type RefusalReason, type RequestObserver } from "../http/request_observer.ts";
import { tolerantPath } from "../http/path.ts";
import { toProblem } from "../http/problem.ts";
import { requireNeighbour, requirePost } from "./callers.ts";
import {
  type DeviceKeysReceiver,
  deviceKeysRoute,
  stockRoute,
  transactionRoutes,
  type TransactionRoutesOptions,
} from "./transaction_routes.ts";

/** key_IDs in one activation. */
const MAX_KEYS = 10;

const id = z.union([z.int(), z.bigint(), z.string()]).transform(String);

const activationSchema = z.object({
  key_IDs_list: z.array(z.string()).min(1),
  origin_SAE_ID: id,
  remote_SAE_ID: id,
});

const ANSWERS: Record<ActivationResult, readonly [200 | 400 | 404, string, RefusalReason?]> = {
  activated: [200, "OK"],
  refused: [400, "Cannot activate key", "out_of_keys"],
  unauthorized: [400, "Bad request", "unauthorized"],
  // Not "Cannot activate key": the caller would take the blocks for used, and try others.
  limited: [400, "Bad request", "limit"],
  unknown: [404, "Not found", "invalid"],
};

export interface KmeAppOptions extends Omit<TransactionRoutesOptions, "refused" | "devices"> {
  readonly observer?: RequestObserver;
  /** By the neighbour's id. */
  readonly stocks: ReadonlyMap<KmeId, Pick<StockAgreement, "answer">>;
  /** Receivers of the keys of QKD devices, by the neighbour's id. */
  readonly devices?: ReadonlyMap<KmeId, DeviceKeysReceiver>;
}

export function kmeApp(
  { delivery, directory, observer, stocks, devices = new Map() }: KmeAppOptions,
): Hono<FrontEnv> {
  const app = new Hono<FrontEnv>({ getPath: tolerantPath });

  app.onError((error, c) => {
    const { status, reason, message, headers } = toProblem(error);
    refused(c, status, reason, message);
    if (c.req.path.startsWith(PEER_PATHS)) return answerJson(c, JSON.stringify({ message }), status, headers);
    return c.text(status === 400 ? "Bad request" : message, status, headers);
  });
  app.notFound((c) => {
    refused(c, 404, "http", "Not found");
    return c.text("Not found", 404);
  });

  app.all("/keys/activate", async (c) => {
    requirePost(c);
    requireNeighbour(c, directory);
    const body = await readBody(c.req.raw);
    c.env.connection.requestComplete();
    const message = parse(body);
    const invalid = (text: string) => {
      refused(c, 400, "invalid", text);
      return c.text(text, 400);
    };
    if (message === undefined) return invalid("Bad request");
    if (message.key_IDs_list.length > MAX_KEYS) {
      return invalid(`Too many keys requested, max is ${MAX_KEYS}`);
    }
    const ids = message.key_IDs_list.map(parseKeyId);
    if (!ids.every((keyId) => keyId !== undefined)) return invalid("Bad request");
    const { identity } = c.env.connection;
    const result = await delivery.activate(identity, message.origin_SAE_ID, message.remote_SAE_ID, ids);
    const [status, text, reason] = ANSWERS[result];
    if (reason !== undefined) refused(c, status, reason, text);
    return c.text(text, status);
  });

  transactionRoutes(app, { delivery, directory, devices, refused });
  stockRoute(app, { directory, stocks });
  deviceKeysRoute(app, { directory, devices });
  return app;

  function refused(c: Context<FrontEnv>, status: number, reason: RefusalReason, message: string): void {
    observer?.refused({
      status,
      reason,
      caller: directory.callerName(c.env.connection.identity),
      client: c.env.connection,
      request: describeRequest(c.req.raw.method, c.req.path),
      message: cut(message),
    });
  }
}

function parse(body: string) {
  try {
    const value = parseExactJson(body) as { key_IDs_list?: unknown } | null;
    // One more than allowed is enough for the check of the number; the schema would report every wrong element.
    if (Array.isArray(value?.key_IDs_list)) value.key_IDs_list.splice(MAX_KEYS + 1);
    return activationSchema.safeParse(value).data;
  } catch {
    return undefined;
  }
}
