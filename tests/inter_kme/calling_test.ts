/** A KME of this program calls a KME that knows `/keys/activate` only, and whatever that one does. */
import assert from "node:assert/strict";
import { assertProblem, stockOf } from "../sae_api/api_fixture.ts";
import { eventually } from "../harness/eventually.ts";
import { ledgerOf } from "../harness/ledger_queries.ts";
import type { NetworkSpec } from "../harness/test_network.ts";
import { keyIdsOf, type SaeClient } from "../harness/sae_client.ts";
import { makeTestCa } from "../harness/test_certificates.ts";
import { formatHelloAnswer, PeerPath } from "../../src/inter_kme/wire.ts";
import { CANNOT_ACTIVATE, type PeerReaction, RustKme, startFirst } from "./rust_kme.ts";

/** The KME under test is 1, with SAEs 1 and 2; the peer is KME 2 with SAE 3. */
function spec(options: Record<string, unknown> = {}, database = ":memory:"): NetworkSpec {
  return {
    kmes: [
      { id: 1, nickname: "Alice", saes: [1, 2], options, database },
      { id: 2, saes: [3] },
    ],
  };
}

const isActivation = ({ path }: { path: string }) => path === "/keys/activate";

/** Takes keys one by one until there are none. */
async function drain(client: SaeClient, slave: number): Promise<string[]> {
  const ids: string[] = [];
  while (true) {
    const response = await client.encKeys(slave);
    if (response.status !== 200) {
      assertProblem(response, 503);
      return ids;
    }
    ids.push(...keyIdsOf(response));
  }
}

Deno.test("the peer is sent the messages of its own protocol, for at most ten keys at a time", async () => {
  await using network = await startFirst(spec(), [1, 2, 30]);
  await using peer = await RustKme.start(network, 2, network.blockIds[0]!);
  const client = network.client(1);
  const [first] = keyIdsOf(await client.encKeys(3));
  const { serialHex } = network.kme(1).interKmeClient;
  assert.equal(peer.requests.length, 1);
  assert.equal(peer.requests[0]!.method, "POST");
  assert.equal(peer.requests[0]!.contentType, "application/json");
  assert.equal(peer.requests[0]!.body, `{"key_IDs_list":["${first}"],"origin_SAE_ID":1,"remote_SAE_ID":3}`);
  assert.equal(BigInt(`0x${peer.requests[0]!.serial}`), BigInt(`0x${serialHex}`));

  const more = keyIdsOf(await network.client(2).encKeys(3, { number: 25 }));
  const bodies = peer.requests.slice(1).map(({ body }) => JSON.parse(body));
  assert.deepEqual(bodies.flatMap((body) => body.key_IDs_list).toSorted(), more.toSorted());
  for (const body of bodies) {
    assert.ok(body.key_IDs_list.length <= 10);
    assert.deepEqual([body.origin_SAE_ID, body.remote_SAE_ID], [2, 3]);
  }
  assert.deepEqual([...peer.activated.keys()].toSorted(), [first!, ...more].toSorted());
  assert.equal(await stockOf(client, 3), 4);
  // Its abilities are queried once, by a message that it does not know. The same message probes it when there is no other.
  assert.ok(peer.others.length <= 3 && peer.others.every(({ path }) => path === "/kme/v1/hello"));
  assert.equal(await network.process.stop(), 0);
  assert.equal(network.process.lines.filter((line) => line.includes("activated between")).length, 26);
});

Deno.test("ids go to the peer in the form and with all the digits of the configuration", async () => {
  const big = "9007199254740993";
  await using network = await startFirst({
    kmes: [{ id: 1, saes: [big, "alice é"] }, { id: "two", saes: ["18446744073709551615", "7"] }],
  }, [1, "two", 4]);
  await using peer = await RustKme.start(network, "two", network.blockIds[0]!);
  keyIdsOf(await network.client(big).encKeys("18446744073709551615"));
  keyIdsOf(await network.client("alice é").encKeys("7"));
  assert.ok(peer.requests[0]!.body.endsWith(`"origin_SAE_ID":${big},"remote_SAE_ID":18446744073709551615}`));
  assert.ok(peer.requests[1]!.body.endsWith('"origin_SAE_ID":"alice é","remote_SAE_ID":"7"}'));
});

Deno.test("blocks that the peer does not have are set aside and others are used, in the same request of the SAE", async () => {
  const options = { inter_kme_timeout_seconds: 0.5, key_lifetime_seconds: 5 };
  await using network = await startFirst(spec(options, "sqlite"), [1, 2, 40]);
  const ids = network.blockIds[0]!;
  const had = ids.filter((_, i) => i % 3 !== 0);
  await using peer = await RustKme.start(network, 2, had);
  const client = network.client(1);
  const given = keyIdsOf(await client.encKeys(3, { number: 12 }));
  given.push(...await drain(client, 3));
  assert.deepEqual(given.toSorted(), had.toSorted());
  assert.equal(peer.free.size, 0);
  // They wait for the peer to get them.
  const [fresh] = await network.writeKeyFile(1, 2, 1);
  peer.free.add(fresh!);
  await eventually(async () => {
    const answer = await client.encKeys(3);
    return answer.status === 200 && keyIdsOf(answer)[0] === fresh;
  }, { timeout: 20_000 });
  assert.equal(await network.process.stop(), 0);
  const ledger = ledgerOf(network.kme(1));
  const waiting = ids.filter((id) => !had.includes(id));
  for (const id of waiting) assert.ok(ledger.blocks.has(id), "a refused block is gone");
  assert.equal(ledger.seen.size, 41);
});

Deno.test("a peer that refuses everything consumes no keys", async () => {
  await using network = await startFirst(spec(), [1, 2, 60]);
  await using peer = await RustKme.start(network, 2, network.blockIds[0]!);
  const client = network.client(1);
  peer.react = (request) => isActivation(request) ? CANNOT_ACTIVATE : undefined;
  for (const number of [1, 3, 12]) {
    const response = await client.encKeys(3, { number });
    assertProblem(response, 503);
    assert.equal(await stockOf(client, 3), 60);
  }
  peer.react = () => undefined;
  const given = await drain(client, 3);
  assert.deepEqual(given.toSorted(), network.blockIds[0]!.toSorted());
});

Deno.test("any other answer than 200 is a refusal that consumes no keys", async () => {
  await using network = await startFirst(spec(), [1, 2, 12]);
  await using peer = await RustKme.start(network, 2, network.blockIds[0]!);
  const client = network.client(1);
  for (
    const reaction of [
      { status: 404, body: "Not found" },
      { status: 400, body: "Bad request" },
      { status: 401, body: "{}" },
      { status: 302, body: "" },
      { status: 201, body: "OK" },
      { status: 204, body: "" },
    ]
  ) {
    peer.react = (request) => isActivation(request) ? reaction : undefined;
    const before = peer.requests.length;
    assertProblem(await client.encKeys(3, { number: 2 }), 503);
    assert.equal(await stockOf(client, 3), 12, `${reaction.status}`);
    assert.ok(peer.requests.length - before <= 1, "asked again in vain");
  }
  peer.react = () => undefined;
  assert.equal((await drain(client, 3)).length, 12);
  assert.equal(peer.activated.size, 12);
});

Deno.test("while the abilities of the peer are unknown, no keys are consumed and nothing is cached", async () => {
  await using network = await startFirst(spec(), [1, 2, 12]);
  await using peer = await RustKme.start(network, 2, network.blockIds[0]!);
  const client = network.client(1);
  for (const status of [500, 502, 403, 407, 302]) {
    peer.react = () => ({ status, body: "<html>a proxy's page</html>" });
    const response = await client.encKeys(3, { number: 2 });
    assertProblem(response, 503);
    assert.deepEqual(response.json.details, [{ peer: `KME 2 answered with status ${status}` }]);
    assert.equal(await stockOf(client, 3), 12, `${status}`);
    assert.equal(peer.requests.length, 0);
  }
  peer.react = () => undefined;
  assert.equal((await drain(client, 3)).length, 12);
});

Deno.test("a peer that fails at an activation may have done it: those keys are never handed out", async () => {
  await using network = await startFirst(spec({ key_lifetime_seconds: 600 }, "sqlite"), [1, 2, 20]);
  await using peer = await RustKme.start(network, 2, network.blockIds[0]!);
  const client = network.client(1);
  const doubtful = new Set<string>();
  for (const status of [500, 503]) {
    peer.react = (request) => {
      if (!isActivation(request)) return undefined;
      for (const id of JSON.parse(request.body).key_IDs_list) doubtful.add(id);
      return { status, body: "the key store is unavailable" };
    };
    const before = peer.requests.length;
    const response = await client.encKeys(3, { number: 2 });
    assertProblem(response, 503);
    assert.deepEqual(response.json.details, [{ peer: `KME 2 answered with status ${status}` }]);
    assert.equal(peer.requests.length - before, 1, "asked again");
  }
  assert.equal(doubtful.size, 4);
  assert.equal(await stockOf(client, 3), 16);
  peer.react = () => undefined;
  const given = await drain(client, 3);
  assert.deepEqual(
    given.toSorted(),
    network.blockIds[0]!.filter((id) => !doubtful.has(id)).toSorted(),
  );
  assert.equal(await network.process.stop(), 0);
  // Nor after a restart.
  await network.start(1);
  assertProblem(await network.client(1).encKeys(3), 503);
  assert.equal(await stockOf(network.client(1), 3), 0);
});

Deno.test("a peer that cannot be reached, or is another one, consumes no keys", async () => {
  await using network = await startFirst(spec({ inter_kme_timeout_seconds: 2 }), [1, 2, 10]);
  const client = network.client(1);
  const refused = async () => {
    const response = await client.encKeys(3, { number: 3 });
    assertProblem(response, 503);
    assert.deepEqual(response.json.details, [{ peer: "KME 2 is unreachable" }]);
    assert.equal(await stockOf(client, 3), 10);
  };
  await refused();
  {
    await using impostor = await RustKme.start(
      network,
      2,
      network.blockIds[0]!,
      await makeTestCa("inter-KME CA"),
    );
    await refused();
    assert.equal(impostor.requests.length + impostor.others.length, 0);
  }
  await refused();
  const given: string[] = [];
  {
    await using peer = await RustKme.start(network, 2, network.blockIds[0]!);
    given.push(...keyIdsOf(await client.encKeys(3, { number: 2 })));
    assert.equal(peer.activated.size, 2);
  }
  // It was there a moment ago; its connection is still kept.
  const response = await client.encKeys(3, { number: 3 });
  assertProblem(response, 503);
  const left = await stockOf(client, 3);
  await using peer = await RustKme.start(
    network,
    2,
    network.blockIds[0]!.filter((id) => !given.includes(id)),
  );
  const rest = await drain(client, 3);
  assert.equal(rest.length, left);
  assert.equal(new Set([...given, ...rest]).size, given.length + rest.length);
  assert.equal(peer.activated.size, left);
});

Deno.test("a peer that never answers consumes no keys", async () => {
  await using network = await startFirst(spec({ inter_kme_timeout_seconds: 0.5 }), [1, 2, 10]);
  await using peer = await RustKme.start(network, 2, network.blockIds[0]!);
  const client = network.client(1);
  peer.react = () => "silence";
  assertProblem(await client.encKeys(3), 503);
  assert.equal(await stockOf(client, 3), 10);
  assert.equal(peer.requests.length, 0);
});

for (const reaction of ["silence", "hang up", "half an answer"] as const) {
  Deno.test(`after ${reaction} keys that the peer may have are never handed out`, async () => {
    const options = { inter_kme_timeout_seconds: 1, key_lifetime_seconds: 600 };
    await using network = await startFirst(spec(options, "sqlite"), [1, 2, 20]);
    const ids = network.blockIds[0]!;
    await using peer = await RustKme.start(network, 2, ids);
    const client = network.client(1, { timeout: 10_000 });
    keyIdsOf(await client.encKeys(3));
    const doubtful = new Set<string>();
    peer.react = (request): PeerReaction | undefined => {
      if (!isActivation(request)) return reaction;
      for (const id of JSON.parse(request.body).key_IDs_list) doubtful.add(id);
      return reaction;
    };
    const begin = performance.now();
    const response = await client.encKeys(3, { number: 3 });
    assertProblem(response, 503);
    assert.deepEqual(response.json.details, [{ peer: "KME 2 did not answer" }]);
    // Connecting and answering have their time-outs, and a broken connection is tried once more.
    assert.ok(performance.now() - begin < 8000, "the SAE waited for too long");
    assert.ok(doubtful.size >= 3);
    assert.equal(await stockOf(client, 3), 19 - doubtful.size);

    peer.react = () => undefined;
    const given = await drain(client, 3);
    assert.equal(given.length, 19 - doubtful.size);
    assert.ok(given.every((id) => !doubtful.has(id)), "a doubtful block was given");
    assert.equal(await network.process.stop(), 0);
    // Nor after a restart.
    await network.start(1);
    assertProblem(await network.client(1).encKeys(3), 503);
    assert.equal(await stockOf(network.client(1), 3), 0);
  });
}

Deno.test("an SAE that hangs up while the peer is asked leaves nothing stuck", async () => {
  const options = { key_lifetime_seconds: 3, inter_kme_timeout_seconds: 5 };
  await using network = await startFirst(spec(options, "sqlite"), [1, 2, 20]);
  await using peer = await RustKme.start(network, 2, network.blockIds[0]!);
  const client = network.client(1);
  keyIdsOf(await client.encKeys(3));
  const asked = Promise.withResolvers<void>();
  const gone = Promise.withResolvers<void>();
  peer.react = async (request) => {
    if (isActivation(request)) {
      asked.resolve();
      await gone.promise;
    }
    return undefined;
  };
  const socket = await client.openSocket();
  socket.write("GET /api/v1/keys/3/enc_keys?number=4 HTTP/1.1\r\nHost: kme\r\n\r\n");
  await asked.promise;
  const closed = new Promise((resolve) => socket.once("close", resolve));
  socket.destroy();
  await closed;
  gone.resolve();
  await eventually(() => peer.activated.size === 5, { what: "the activation at the peer" });
  peer.react = () => undefined;
  // What the peer has activated is not given to others here.
  const given = await drain(client, 3);
  assert.equal(given.length, 15);
  assert.equal(peer.activated.size, 20);
  await eventually(async () => {
    // The hand-over's records expire like any other's.
    return (await client.decKeys(1, given[0]!)).status === 400;
  }, { what: "the keys expired", timeout: 20_000 });
  assert.equal(await network.process.stop(), 0);
  const ledger = ledgerOf(network.kme(1));
  assert.equal(ledger.reservations, 0);
  assert.equal(ledger.blocks.size, 0);
});

Deno.test("many SAEs at once, a peer that lacks blocks and fails now and then: no key twice, none lost", async () => {
  const options = { inter_kme_timeout_seconds: 2, key_lifetime_seconds: 600 };
  await using network = await startFirst(spec(options), [1, 2, 120]);
  const ids = network.blockIds[0]!;
  const had = ids.filter((_, i) => i % 5 !== 0);
  await using peer = await RustKme.start(network, 2, had);
  let count = 0;
  const doubtful = new Set<string>();
  peer.react = (request) => {
    if (!isActivation(request) || ++count % 7 !== 0) return undefined;
    for (const id of JSON.parse(request.body).key_IDs_list) doubtful.add(id);
    return { status: 500, body: "try again" };
  };
  const given: string[] = [];
  const client = network.client(1, { maxSockets: 12 });
  await Promise.all(Array.from({ length: 12 }, async () => {
    for (let i = 0; i < 12; i++) {
      const response = await client.encKeys(3);
      if (response.status === 200) given.push(...keyIdsOf(response));
      else assertProblem(response, 503);
    }
  }));
  peer.react = () => undefined;
  given.push(...await drain(client, 3));
  assert.equal(new Set(given).size, given.length, "a key twice");
  assert.ok(doubtful.size > 0);
  // Only those that the peer may have activated without saying so.
  const certain = had.filter((id) => !doubtful.has(id)).toSorted();
  assert.deepEqual(given.toSorted(), certain);
  assert.deepEqual([...peer.activated.keys()].toSorted(), certain);
});

Deno.test("a KME stops although a neighbour does not answer a request that resolves a transaction", async () => {
  const options = { inter_kme_timeout_seconds: 3600, lease_seconds: 2 };
  await using network = await startFirst(spec(options, "sqlite"), [1, 2, 4]);
  await using peer = await RustKme.start(network, 2, []);
  const asked = new Map([PeerPath.transactions, PeerPath.takeBack].map((path) => [
    path as string,
    Promise.withResolvers<void>(),
  ]));
  peer.react = ({ path }): PeerReaction => {
    if (path === PeerPath.hello) return { status: 200, body: formatHelloAnswer("2", ["3"], ["1", "2"]) };
    asked.get(path)?.resolve();
    return "silence";
  };
  const answer = assert.rejects(network.client(1).encKeys(3));
  await asked.get(PeerPath.transactions)!.promise;
  await network.process.kill();
  await answer;
  const process = await network.start(1);
  await asked.get(PeerPath.takeBack)!.promise;
  assert.equal(await process.stop(), 0);
});
