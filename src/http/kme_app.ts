/** The inter-KME interface, compatible with `qkd_kme_server`: plain text answers, status 200 or a refusal. */
import { Hono } from "hono";
import { z } from "zod";
import type { ActivationResult } from "../delivery/delivery.ts";
import { parseKeyId } from "../model/block.ts";
import { parseExactJson } from "../model/json.ts";
import { PEER_PATHS } from "../peer/wire.ts";
import { readBody } from "./body.ts";
import type { FrontEnv } from "./context.ts";
import { tolerantPath } from "./path.ts";
import { HttpProblem, toProblem } from "./problem.ts";
import { transactionRoutes, type TransactionRoutesOptions } from "./transactions.ts";

/** key_IDs in one activation. */
const MAX_KEYS = 10;

const id = z.union([z.int(), z.bigint(), z.string()]).transform(String);

const activationSchema = z.object({
  key_IDs_list: z.array(z.string()).min(1),
  origin_SAE_ID: id,
  remote_SAE_ID: id,
});

const ANSWERS: Record<ActivationResult, readonly [200 | 400 | 404, string]> = {
  activated: [200, "OK"],
  refused: [400, "Cannot activate key"],
  unauthorized: [400, "Bad request"],
  unknown: [404, "Not found"],
};

export function kmeApp({ delivery, directory }: TransactionRoutesOptions): Hono<FrontEnv> {
  const app = new Hono<FrontEnv>({ getPath: tolerantPath });

  app.onError((error, c) => {
    const { status, message, headers } = toProblem(error);
    if (c.req.path.startsWith(PEER_PATHS)) return c.json({ message }, status, headers);
    return c.text(status === 400 ? "Bad request" : message, status, headers);
  });
  app.notFound((c) => c.text("Not found", 404));

  app.all("/keys/activate", async (c) => {
    if (c.req.raw.method !== "POST") {
      throw new HttpProblem(405, "only POST is allowed here", { allow: "POST" });
    }
    const body = await readBody(c.req.raw);
    c.env.connection.requestComplete();
    const message = parse(body);
    if (message === undefined) return c.text("Bad request", 400);
    if (message.key_IDs_list.length > MAX_KEYS) {
      return c.text(`Too many keys requested, max is ${MAX_KEYS}`, 400);
    }
    const ids = message.key_IDs_list.map(parseKeyId);
    if (!ids.every((keyId) => keyId !== undefined)) return c.text("Bad request", 400);
    const { serial } = c.env.connection.identity;
    const result = await delivery.activate(serial, message.origin_SAE_ID, message.remote_SAE_ID, ids);
    const [status, text] = ANSWERS[result];
    return c.text(text, status);
  });

  transactionRoutes(app, { delivery, directory });
  return app;
}

function parse(body: string) {
  try {
    return activationSchema.safeParse(parseExactJson(body)).data;
  } catch {
    return undefined;
  }
}
