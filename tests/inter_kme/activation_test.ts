import assert from "node:assert/strict";
import { formatKeyId, type KeyIdBytes } from "../../src/domain/block.ts";
import type { ConfiguredId } from "../../src/domain/ids.ts";
import { activateKeys, MESSAGES_SIDE_BY_SIDE } from "../../src/inter_kme/activate_keys.ts";
import { answer, type Handler, ok, openChannel, TestPeer } from "./test_peer.ts";

const origin: ConfiguredId = { text: "1", integer: true };
const remote: ConfiguredId = { text: "3", integer: true };

/** Distinct 16-byte ids: 0, 1, 2 ... in the last byte. */
function ids(count: number): KeyIdBytes[] {
  return Array.from({ length: count }, (_, i) => new Uint8Array(16).fill(0xab, 0, 8).fill(i, 15));
}

const texts = (list: readonly KeyIdBytes[]) => list.map(formatKeyId);
const idsIn = (body: string): string[] => JSON.parse(body).key_IDs_list;

/** A peer that has none of these blocks free. */
const without = (bad: readonly KeyIdBytes[]): Handler => (request, response) => {
  const refuses = idsIn(request.body).some((id) => texts(bad).includes(id));
  if (refuses) response.writeHead(400).end("Cannot activate key");
  else response.end("OK");
};

Deno.test("the request on the wire: exact bytes, ids beyond 2^53 unrounded", async () => {
  await using peer = await TestPeer.start();
  using channel = openChannel({ port: peer.port });
  const keyIds = [
    Uint8Array.fromHex("8844cba729e13251a50a25da13e65eea"),
    Uint8Array.fromHex("7B848ADE8CFF3D54A9B853A215E6EE77"),
  ];
  const outcome = await activateKeys(channel, {
    keyIds,
    origin: { text: "9007199254740993", integer: true },
    remote: { text: "18446744073709551615", integer: true },
  });
  assert.deepEqual(outcome, { activated: keyIds, refused: [], untouched: [], unknown: [] });
  await activateKeys(channel, { keyIds: ids(1), origin: { text: "Alice", integer: false }, remote });
  assert.deepEqual(peer.requests.map(({ method, path, body }) => `${method} ${path} ${body}`), [
    "POST /keys/activate " +
    '{"key_IDs_list":["8844cba7-29e1-3251-a50a-25da13e65eea","7b848ade-8cff-3d54-a9b8-53a215e6ee77"],' +
    '"origin_SAE_ID":9007199254740993,"remote_SAE_ID":18446744073709551615}',
    "POST /keys/activate " +
    '{"key_IDs_list":["abababab-abab-abab-0000-000000000000"],"origin_SAE_ID":"Alice","remote_SAE_ID":3}',
  ]);
});

Deno.test("nothing to activate: no message", async () => {
  await using peer = await TestPeer.start();
  using channel = openChannel({ port: peer.port });
  const outcome = await activateKeys(channel, { keyIds: [], origin, remote });
  assert.deepEqual(outcome, { activated: [], refused: [], untouched: [], unknown: [] });
  assert.equal(peer.requests.length, 0);
});

Deno.test("25 key_IDs are sent as 10, 10 and 5, each once", async () => {
  await using peer = await TestPeer.start();
  using channel = openChannel({ port: peer.port });
  const keyIds = ids(25);
  const outcome = await activateKeys(channel, { keyIds, origin, remote });
  assert.deepEqual(outcome.activated, keyIds);
  const sent = peer.requests.map((request) => idsIn(request.body));
  assert.deepEqual(sent.map((list) => list.length).sort(), [10, 10, 5]);
  assert.deepEqual(sent.flat().sort(), texts(keyIds).sort());
});

Deno.test("at most four messages are under way at once", async () => {
  const held: (() => void)[] = [];
  const full = Promise.withResolvers<void>();
  await using peer = await TestPeer.start((_request, response) => {
    held.push(() => response.end("OK"));
    if (held.length === MESSAGES_SIDE_BY_SIDE) full.resolve();
  });
  using channel = openChannel({ port: peer.port });
  const outcome = activateKeys(channel, { keyIds: ids(100), origin, remote });
  await full.promise;
  peer.handler = ok;
  assert.equal(peer.requests.length, MESSAGES_SIDE_BY_SIDE);
  for (const go of held) go();
  assert.equal((await outcome).activated.length, 100);
  assert.equal(peer.accepted, MESSAGES_SIDE_BY_SIDE);
});

Deno.test("a refused message is sent again key by key to find what the peer does not have", async () => {
  const keyIds = ids(25);
  const bad = [keyIds[3]!, keyIds[7]!, keyIds[24]!];
  await using peer = await TestPeer.start(without(bad));
  using channel = openChannel({ port: peer.port });
  const outcome = await activateKeys(channel, { keyIds, origin, remote });
  assert.deepEqual(outcome, {
    activated: keyIds.filter((id) => !bad.includes(id)),
    refused: bad,
    untouched: [],
    unknown: [],
  });
  // The messages of 10 and of 5 are refused and sent again key by key; the other 10 are activated at once.
  assert.equal(peer.requests.length, 3 + 15);
});

Deno.test("a single refused id is not sent again", async () => {
  const keyIds = ids(1);
  await using peer = await TestPeer.start(without(keyIds));
  using channel = openChannel({ port: peer.port });
  const outcome = await activateKeys(channel, { keyIds, origin, remote });
  assert.deepEqual(outcome, { activated: [], refused: keyIds, untouched: [], unknown: [] });
  assert.equal(peer.requests.length, 1);
});

Deno.test("a refusal as JSON of this program is understood too", async () => {
  const keyIds = ids(1);
  await using peer = await TestPeer.start(answer(400, '{"message":"Cannot activate key"}'));
  using channel = openChannel({ port: peer.port });
  assert.deepEqual((await activateKeys(channel, { keyIds, origin, remote })).refused, keyIds);
});

Deno.test("any 200 is a success, whatever its body", async () => {
  for (const body of ["OK\n", "", '"OK"', "fine"]) {
    await using peer = await TestPeer.start(answer(200, body));
    using channel = openChannel({ port: peer.port });
    const keyIds = ids(2);
    assert.deepEqual((await activateKeys(channel, { keyIds, origin, remote })).activated, keyIds);
  }
});

for (
  const [status, body] of [
    [404, "Not found"],
    [400, "Bad request"],
    [400, "Too many keys requested, max is 10"],
    [401, "Cannot activate key"],
    [413, ""],
    [302, ""],
    [201, "OK"],
    [204, ""],
  ] as const
) {
  Deno.test(`${status} ${body}: the message is rejected, nothing more is sent`, async () => {
    await using peer = await TestPeer.start(answer(status, body));
    using channel = openChannel({ port: peer.port });
    const keyIds = ids(100);
    const outcome = await activateKeys(channel, { keyIds, origin, remote });
    assert.deepEqual(outcome, {
      activated: [],
      refused: [],
      untouched: keyIds,
      unknown: [],
      reason: `KME 2 refuses with status ${status}`,
    });
    assert.ok(peer.requests.length <= MESSAGES_SIDE_BY_SIDE);
  });
}

for (const [status, body] of [[500, "{}"], [503, "Cannot activate key"], [504, ""]] as const) {
  Deno.test(`${status} ${body}: the outcome of that message is unknown, nothing more is sent`, async () => {
    await using peer = await TestPeer.start(answer(status, body));
    using channel = openChannel({ port: peer.port });
    const keyIds = ids(100);
    const { unknown, untouched, reason, ...rest } = await activateKeys(channel, { keyIds, origin, remote });
    assert.deepEqual(rest, { activated: [], refused: [] });
    assert.equal(reason, `KME 2 answered with status ${status}`);
    assert.ok(peer.requests.length <= MESSAGES_SIDE_BY_SIDE);
    const sent = peer.requests.flatMap((request) => idsIn(request.body));
    assert.deepEqual(texts(unknown).sort(), sent.sort());
    assert.deepEqual(untouched, keyIds.slice(unknown.length));
  });
}

Deno.test("a peer that begins to reject while keys are sent one by one leaves the rest untouched", async () => {
  const keyIds = ids(10);
  let count = 0;
  await using peer = await TestPeer.start((request, response, socket) => {
    if (++count === 1) return answer(400, "Cannot activate key")(request, response, socket);
    if (count === 2) return ok(request, response, socket);
    answer(404, "")(request, response, socket);
  });
  using channel = openChannel({ port: peer.port });
  const outcome = await activateKeys(channel, { keyIds, origin, remote });
  assert.equal(outcome.activated.length, 1);
  assert.equal(outcome.untouched.length, 9);
  assert.equal(outcome.reason, "KME 2 refuses with status 404");
});

Deno.test("an unreachable peer leaves everything untouched", async () => {
  const peer = await TestPeer.start();
  const { port } = peer;
  await peer[Symbol.asyncDispose]();
  using channel = openChannel({ port });
  const keyIds = ids(60);
  const outcome = await activateKeys(channel, { keyIds, origin, remote });
  assert.deepEqual(outcome, {
    activated: [],
    refused: [],
    untouched: keyIds,
    unknown: [],
    reason: "KME 2 is unreachable",
  });
});

Deno.test("a lost answer leaves the ids of that message unknown, and those not yet sent untouched", async () => {
  const keyIds = ids(60);
  const lost = formatKeyId(keyIds[0]!);
  const others: (() => void)[] = [];
  await using peer = await TestPeer.start((request, response, socket) => {
    others.push(() => idsIn(request.body).includes(lost) ? socket.destroy() : response.end("OK"));
    if (others.length === MESSAGES_SIDE_BY_SIDE) {
      const mine = peer.requests.findIndex((r) => idsIn(r.body).includes(lost));
      others[mine]!();
    }
  });
  using channel = openChannel({ port: peer.port });
  // Wraps the channel, so that the test knows when the KME has noticed the lost answer.
  const outcome = activateKeys({
    kmeId: channel.kmeId,
    post: async (path, json) => {
      const result = await channel.post(path, json);
      if (result.kind === "unknown") { for (const go of others) go(); }
      return result;
    },
  }, { keyIds, origin, remote });
  assert.deepEqual(await outcome, {
    activated: keyIds.slice(10, 40),
    refused: [],
    untouched: keyIds.slice(40),
    unknown: keyIds.slice(0, 10),
    reason: "KME 2 did not answer",
  });
  assert.equal(peer.requests.length, MESSAGES_SIDE_BY_SIDE);
});
