import assert from "node:assert/strict";
import type { Transaction, TransactionAnswer } from "../../src/domain/transaction.ts";
import { Buffer } from "node:buffer";
import { readTransactions } from "../../src/inter_kme/read_messages.ts";
import { PeerKme } from "../../src/inter_kme/peer_kme.ts";
import {
  formatHelloAnswer,
  formatReceptionAnswers,
  FULL_MESSAGE_BYTES,
  MAX_BLOCKS,
  MAX_MESSAGE_BYTES,
  MAX_TRANSACTIONS,
  PeerPath,
} from "../../src/inter_kme/wire.ts";
import { eventually } from "../harness/eventually.ts";
import { inSlices } from "../../src/domain/slices.ts";
import { answer, type Handler, openChannel, TestPeer } from "./test_peer.ts";

const minutes = 60_000;

/** A transaction of padded keys, of 16 blocks each by default. */
function transaction(number: number, keys: number, saes = 1, blocks = 16): Transaction {
  const id = new Uint8Array(16).fill(number);
  return {
    id,
    origin: "1",
    recipients: [{ kme: "2", saes: Array.from({ length: saes }, (_, i) => `${i}`.padEnd(291, "x")) }],
    keys: Array.from({ length: keys }, (_, i) => ({
      id: Uint8Array.from(id, (byte, j) => j < 12 ? byte : i >> 8 * (j - 12)),
      size: 256 * blocks,
      blocks: Array.from({ length: blocks }, () => id),
      padded: new Uint8Array(32 * blocks),
    })),
  };
}

/** A KME of this program: agrees with everything; 413 as the real one. */
const kme: Handler = (request, response) => {
  if (request.path === PeerPath.hello) return void response.end(formatHelloAnswer("2", ["3"], ["1"]));
  if (request.body.length > MAX_MESSAGE_BYTES) return void response.writeHead(413).end("{}");
  const { transactions } = JSON.parse(request.body) as { transactions: unknown[] };
  if (transactions.length > MAX_TRANSACTIONS) {
    return void response.writeHead(400).end(`{"message":"Bad request"}`);
  }
  response.end(JSON.stringify({ answers: transactions.map(() => ({ kind: "activated" })) }));
};

const kinds = (answers: readonly TransactionAnswer[]) => new Set(answers.map(({ kind }) => kind));

Deno.test("many large transactions at once are spread over messages that the peer takes", async () => {
  await using peer = await TestPeer.start(kme);
  using channel = openChannel({ port: peer.port });
  const to = new PeerKme("1", channel);
  const answers = await Promise.all(
    Array.from({ length: MAX_TRANSACTIONS }, (_, i) => to.send(transaction(i, MAX_BLOCKS / 4 / 16))),
  );
  assert.deepEqual(kinds(answers), new Set(["activated"]));
  const sizes = peer.requests.map(({ body }) => body.length);
  assert.ok(sizes.every((size) => size <= FULL_MESSAGE_BYTES), `${sizes}`);
  // Yet they share messages.
  assert.ok(sizes.length <= MAX_TRANSACTIONS / 4, `${sizes}`);
  const sent = peer.requests.flatMap(({ body }) => JSON.parse(body).transactions);
  assert.equal(new Set(sent.map(({ transaction_ID }) => transaction_ID)).size, MAX_TRANSACTIONS);
});

Deno.test("transactions of many blocks are spread over messages of as many blocks as the peer reads", async () => {
  await using peer = await TestPeer.start(kme);
  using channel = openChannel({ port: peer.port });
  const to = new PeerKme("1", channel);
  // Keys without pads: few bytes for each block.
  const keys = MAX_BLOCKS / 4 / 16;
  const large = Array.from({ length: 10 }, (_, i): Transaction => {
    const { keys: padded, ...rest } = transaction(i, keys);
    return { ...rest, keys: padded.map(({ padded: _, ...key }) => key) };
  });
  assert.deepEqual(kinds(await Promise.all(large.map((each) => to.send(each)))), new Set(["activated"]));
  const messages = await Promise.all(peer.requests.map(({ body }) => readTransactions(Buffer.from(body))));
  assert.equal(messages.flatMap((message) => message!.transactions).length, large.length);
});

Deno.test("small transactions share messages up to their number", async () => {
  await using peer = await TestPeer.start(kme);
  using channel = openChannel({ port: peer.port });
  const to = new PeerKme("1", channel);
  const answers = await Promise.all(
    Array.from({ length: MAX_TRANSACTIONS + 1 }, (_, i) => to.send(transaction(i, 1, 1, 1))),
  );
  assert.deepEqual(kinds(answers), new Set(["activated"]));
  assert.deepEqual(
    peer.requests.map(({ body }) => JSON.parse(body).transactions.length).sort(),
    [1, MAX_TRANSACTIONS],
  );
});

Deno.test("a transaction larger than a full message goes alone; one over the bound is not sent", async () => {
  await using peer = await TestPeer.start(kme);
  using channel = openChannel({ port: peer.port });
  const to = new PeerKme("1", channel);
  const answers = await Promise.all([
    to.send(transaction(1, 1)),
    to.send(transaction(2, 1000)),
    to.send(transaction(3, 5000)),
    to.send(transaction(4, 1)),
  ]);
  assert.deepEqual(answers.map(({ kind }) => kind), ["activated", "activated", "unreached", "activated"]);
  assert.deepEqual(answers[2], { kind: "unreached", reason: "the message to KME 2 is too large" });
  const sent = peer.requests.map(({ body }) => ({
    bytes: body.length,
    count: JSON.parse(body).transactions.length,
  }));
  assert.equal(sent.reduce((sum, { count }) => sum + count, 0), 3);
  assert.deepEqual(sent.filter(({ bytes }) => bytes > FULL_MESSAGE_BYTES).map(({ count }) => count), [1]);
});

Deno.test("a long list of blocks that the peer does not have is understood", async () => {
  const whole = transaction(1, MAX_BLOCKS / 16);
  const blocks = whole.keys.flatMap((key) => key.blocks);
  await using peer = await TestPeer.start(
    answer(200, await inSlices(formatReceptionAnswers([{ kind: "refused", blocks, absent: blocks }]))),
  );
  using channel = openChannel({ port: peer.port });
  const refusal = await new PeerKme("1", channel).send(whole);
  assert.ok(refusal.kind === "refused" && refusal.blocks.length === blocks.length);
});

const NOT_OURS = "<html>not JSON</html>";

for (
  const [status, body, ability] of [
    [200, formatHelloAnswer("2", ["3"], ["1"]), "transactions"],
    [404, "Not found", "blocks"],
    [404, `{"message":"Not found"}`, "blocks"],
    [400, "Bad request", "blocks"],
    [200, "OK", "blocks"],
    [400, `{"message":"Bad request"}`, "unreached"],
    [302, NOT_OURS, "unreached"],
    [401, NOT_OURS, "unreached"],
    [403, NOT_OURS, "unreached"],
    [407, NOT_OURS, "unreached"],
    [413, `{"message":"too large"}`, "unreached"],
    [429, NOT_OURS, "unreached"],
    [500, NOT_OURS, "unreached"],
    [503, NOT_OURS, "unreached"],
  ] as const
) {
  Deno.test(`${status} ${body.slice(0, 30)} to hello: ${ability}`, async () => {
    await using peer = await TestPeer.start(answer(status, body));
    using channel = openChannel({ port: peer.port });
    const to = new PeerKme("1", channel);
    assert.equal((await to.ability()).kind, ability);
    // What is no answer is not remembered.
    peer.handler = kme;
    const later = ability === "unreached" ? "transactions" : ability;
    assert.equal((await to.ability()).kind, later);
  });
}

Deno.test("a peer that understands blocks only is asked again after ten minutes, and no request waits for that", async () => {
  let now = 5 * minutes;
  await using peer = await TestPeer.start(answer(404, "Not found"));
  using channel = openChannel({ port: peer.port });
  const to = new PeerKme("1", channel, () => now);
  assert.equal((await to.ability()).kind, "blocks");
  now += 10 * minutes - 1;
  assert.equal((await to.ability()).kind, "blocks");
  assert.equal(peer.requests.length, 1);

  // It does not answer: the old answer serves, and the question waits for its turn.
  let fail: (() => void) | undefined;
  peer.handler = (_request, response) => void (fail = () => response.writeHead(503).end());
  now += 1;
  assert.equal((await to.ability()).kind, "blocks");
  await eventually(() => fail !== undefined, { what: "the question" });
  now += 9 * minutes;
  assert.equal((await to.ability()).kind, "blocks");
  fail!();
  peer.handler = kme;

  now += 1 * minutes;
  await eventually(async () => (await to.ability()).kind === "transactions", { what: "the new answer" });
  assert.equal((await to.ability()).kind, "transactions");
  now += 60 * minutes;
  assert.equal((await to.ability()).kind, "transactions");
  assert.equal(peer.requests.length, 3);
});
