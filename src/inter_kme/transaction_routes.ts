/** This project's own messages between KMEs, as Hono routes. */
import type { Context, Hono } from "hono";
import type { z } from "zod";
import type { Delivery } from "../delivery/delivery.ts";
import type { Directory } from "../delivery/directory.ts";
import type { ReceptionAnswer } from "../delivery/reception.ts";
import {
  formatHelloAnswer,
  formatReceptionAnswers,
  formatTakeBackAnswer,
  helloSchema,
  MAX_MESSAGE_BYTES,
  parseMessage,
  PeerPath,
  takeBackSchema,
  transactionsSchema,
} from "./wire.ts";
import { readBody } from "../http/body.ts";
import type { RefusalReason } from "../http/request_observer.ts";
import type { FrontEnv } from "../http/context.ts";
import { JSON_HEADERS } from "../http/headers.ts";
import { HttpProblem } from "../http/problem.ts";

export interface TransactionRoutesOptions {
  readonly delivery: Delivery;
  readonly directory: Directory;
  /** Told of each transaction that is not accepted, though the message is answered with 200. */
  readonly refused: (c: Context<FrontEnv>, status: number, reason: RefusalReason, message: string) => void;
}

const REFUSALS: Partial<Record<ReceptionAnswer["kind"], RefusalReason>> = {
  rejected: "invalid",
  refused: "out_of_keys",
  unknown: "database",
};

export function transactionRoutes(
  app: Hono<FrontEnv>,
  { delivery, directory, refused }: TransactionRoutesOptions,
): void {
  app.all(PeerPath.hello, async (c) => {
    const { sender_KME_ID } = await message(c, helloSchema);
    requireSender(c, directory, sender_KME_ID);
    const { text: thisKme } = directory.thisKme;
    const answer = formatHelloAnswer(thisKme, directory.saesOf(thisKme), directory.saesOf(sender_KME_ID));
    return c.body(answer, 200, JSON_HEADERS);
  });

  app.all(PeerPath.transactions, async (c) => {
    const { sender_KME_ID, transactions } = await message(c, transactionsSchema);
    const { identity } = c.env.connection;
    const answers = await Promise.all(
      transactions.map((transaction) =>
        delivery.receive(identity, sender_KME_ID, transaction).catch((): ReceptionAnswer => ({
          kind: "unknown",
          reason: `the key store of KME ${directory.thisKme.text} is unavailable`,
        }))
      ),
    );
    for (const answer of answers) {
      const reason = REFUSALS[answer.kind];
      if (reason === undefined) continue;
      refused(c, 200, reason, "reason" in answer ? answer.reason : "the blocks are not free here");
    }
    return c.body(formatReceptionAnswers(answers), 200, JSON_HEADERS);
  });

  app.all(PeerPath.takeBack, async (c) => {
    const { sender_KME_ID, request } = await message(c, takeBackSchema);
    const answer = await delivery.takeBack(c.env.connection.identity, sender_KME_ID, request);
    return c.body(formatTakeBackAnswer(answer), 200, JSON_HEADERS);
  });
}

async function message<T extends z.ZodType>(c: Context<FrontEnv>, schema: T): Promise<z.output<T>> {
  if (c.req.raw.method !== "POST") throw new HttpProblem(405, "only POST is allowed here", { allow: "POST" });
  const body = await readBody(c.req.raw, MAX_MESSAGE_BYTES);
  c.env.connection.requestComplete();
  const value = parseMessage(schema, body);
  if (value === undefined) throw new HttpProblem(400, "Bad request");
  return value;
}

function requireSender(c: Context<FrontEnv>, directory: Directory, sender: string): void {
  if (
    directory.kme(sender) === undefined || !directory.maySpeakFor(c.env.connection.identity, sender)
  ) {
    throw new HttpProblem(400, "Bad request");
  }
}
