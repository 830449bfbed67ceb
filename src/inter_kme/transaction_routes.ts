/** This project's own messages between KMEs, as Hono routes. */
import type { Context, Hono } from "hono";
import type { Delivery } from "../delivery/delivery.ts";
import type { Directory } from "../delivery/directory.ts";
import type { ReceptionAnswer } from "../delivery/reception.ts";
import {
  formatHelloAnswer,
  formatReceptionAnswers,
  formatTakeBackAnswer,
  MAX_MESSAGE_BYTES,
  PeerPath,
} from "./wire.ts";
import { requireNeighbour, requirePost } from "./callers.ts";
import { inSlices } from "../domain/slices.ts";
import type { StockAgreement } from "../delivery/stock_agreement.ts";
import type { DeviceDirection } from "../domain/device_direction.ts";
import type { KmeId } from "../domain/ids.ts";
import type { DeviceKeysAnswer, DeviceKeysQuestion } from "../domain/device_keys.ts";
import {
  formatDeviceKeysAnswer,
  MAX_DEVICE_QUESTION_BYTES,
  readDeviceKeysQuestion,
} from "./device_key_messages.ts";
import { formatStockAnswer, MAX_QUESTION_BYTES, readStockQuestion } from "./stock_messages.ts";
import { readHello, readTakeBack, readTransactions } from "./read_messages.ts";
import { readBodyBytes } from "../http/body.ts";
import type { RefusalReason } from "../http/request_observer.ts";
import type { FrontEnv } from "../http/context.ts";
import { answerJson } from "../http/json_answer.ts";
import { HttpProblem } from "../http/problem.ts";

export interface TransactionRoutesOptions {
  readonly delivery: Delivery;
  readonly directory: Directory;
  /** By the neighbour's id. */
  readonly devices: ReadonlyMap<KmeId, Pick<DeviceKeysReceiver, "direction">>;
  /** Called for each transaction that is not accepted; its message is answered with 200. */
  readonly refused: (c: Context<FrontEnv>, status: number, reason: RefusalReason, message: string) => void;
}

const REFUSALS: Partial<Record<ReceptionAnswer["kind"], RefusalReason>> = {
  rejected: "invalid",
  refused: "out_of_keys",
  unknown: "database",
};

export function transactionRoutes(
  app: Hono<FrontEnv>,
  { delivery, directory, devices, refused }: TransactionRoutesOptions,
): void {
  app.all(PeerPath.hello, async (c) => {
    const { sender } = await message(c, directory, readHello);
    if (directory.kme(sender) === undefined || !directory.mayActFor(c.env.connection.identity, sender)) {
      throw new HttpProblem(400, "Bad request");
    }
    const { text: thisKme } = directory.thisKme;
    const direction = devices.get(sender)?.direction ?? "none";
    const saes = [directory.saesOf(thisKme), directory.saesOf(sender)] as const;
    return answerJson(c, formatHelloAnswer(thisKme, ...saes, direction));
  });

  app.all(PeerPath.transactions, async (c) => {
    const { sender, transactions } = await message(c, directory, readTransactions);
    const { identity } = c.env.connection;
    const answers = await Promise.all(
      transactions.map((transaction) =>
        delivery.receive(identity, sender, transaction).catch((): ReceptionAnswer => ({
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
    return answerJson(c, await inSlices(formatReceptionAnswers(answers)));
  });

  app.all(PeerPath.takeBack, async (c) => {
    const { sender, request } = await message(c, directory, readTakeBack);
    const answer = await delivery.takeBack(c.env.connection.identity, sender, request);
    return answerJson(c, await inSlices(formatTakeBackAnswer(answer)));
  });
}

/** Questions about the stock of the link with the KME that asks. */
export function stockRoute(
  app: Hono<FrontEnv>,
  { directory, stocks }: {
    readonly directory: Directory;
    /** By the neighbour's id. */
    readonly stocks: ReadonlyMap<KmeId, Pick<StockAgreement, "answer">>;
  },
): void {
  app.all(PeerPath.stock, async (c) => {
    const { sender, question } = await message(c, directory, readStockQuestion, MAX_QUESTION_BYTES);
    const stock = stocks.get(sender);
    if (stock === undefined || !directory.mayActFor(c.env.connection.identity, sender)) {
      throw new HttpProblem(400, "Bad request");
    }
    return answerJson(c, formatStockAnswer(await stock.answer(question)));
  });
}

/** What answers questions about the keys of a QKD device. */
export interface DeviceKeysReceiver {
  /** Which end requests keys from its device. */
  readonly direction: DeviceDirection;
  /** @throws StoreUnavailable */
  receive(question: DeviceKeysQuestion): Promise<DeviceKeysAnswer>;
}

/** Keys that the KME that asks has got from its QKD device. */
export function deviceKeysRoute(
  app: Hono<FrontEnv>,
  { directory, devices }: {
    readonly directory: Directory;
    /** By the neighbour's id. */
    readonly devices: ReadonlyMap<KmeId, DeviceKeysReceiver>;
  },
): void {
  app.all(PeerPath.deviceKeys, async (c) => {
    const { sender, question } = await message(
      c,
      directory,
      readDeviceKeysQuestion,
      MAX_DEVICE_QUESTION_BYTES,
    );
    if (directory.kme(sender) === undefined || !directory.mayActFor(c.env.connection.identity, sender)) {
      throw new HttpProblem(400, "Bad request");
    }
    const device = devices.get(sender);
    if (device === undefined) {
      throw new HttpProblem(400, `no key_source is configured for the link with KME ${sender}`);
    }
    return answerJson(c, formatDeviceKeysAnswer(await device.receive(question)));
  });
}

/**
 * @param read reads the message; `undefined` when it is not valid.
 * @throws HttpProblem
 */
async function message<T>(
  c: Context<FrontEnv>,
  directory: Directory,
  read: (bytes: Uint8Array) => Promise<T | undefined> | T | undefined,
  limit = MAX_MESSAGE_BYTES,
): Promise<T> {
  requirePost(c);
  requireNeighbour(c, directory);
  const body = await readBodyBytes(c.req.raw, limit);
  c.env.connection.requestComplete();
  const value = await read(body);
  if (value === undefined) throw new HttpProblem(400, "Bad request");
  return value;
}
