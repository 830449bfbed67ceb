/** A KME can only have those keys taken back that it sent itself. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { assertProblem } from "../sae_api/api_fixture.ts";
import { eventually } from "../harness/eventually.ts";
import { keyIdsOf, type SaeResponse } from "../harness/sae_client.ts";
import { makeTestNetwork, type TestNetwork } from "../harness/test_network.ts";
import { KmeCaller } from "../inter_kme/rust_kme.ts";
import { stockOf } from "../sae_api/api_fixture.ts";
import { tap } from "./tap.ts";
import { triangle } from "./test_networks.ts";

const BLOCKS = 10;

interface Scene extends AsyncDisposable {
  readonly network: TestNetwork;
  /** Calls KME 1 with the certificate of KME 2. */
  readonly asKme2: KmeCaller;
  /** Keys of SAE 1 for SAEs 2 and 3. */
  readonly keys: SaeResponse;
  /** Transaction of these keys, which KME 2 knows because it has a part in it. */
  readonly transaction: string;
  /** Blocks of the link between KMEs 1 and 2. */
  readonly blocks: readonly string[];
}

/** SAE 1 of KME 1 has a key that waits for SAE 2 at KME 2 and for SAE 3 at KME 3. */
async function startScene(): Promise<Scene> {
  const stack = new AsyncDisposableStack();
  try {
    const network = stack.use(await makeTestNetwork(triangle));
    const blocks = await network.writeKeyFile(1, 2, BLOCKS);
    await network.writeKeyFile(1, 3, BLOCKS);
    const toKme2 = stack.use(await tap(network, 1, 2));
    await network.startAll();
    for (const slave of [2, 3]) {
      await eventually(async () => await stockOf(network.client(1), slave) === BLOCKS, {
        what: "keys in stock",
      });
    }
    const keys = await network.client(1).encKeys(2, { additional_slave_SAE_IDs: ["3"] });
    assert.equal(keys.status, 200, keys.text);
    const seen = /"transaction_ID":"([0-9a-f-]{36})"/.exec(new TextDecoder().decode(toKme2.received()));
    assert.ok(seen, "KME 2 was told of no transaction");
    const asKme2 = stack.use(new KmeCaller(network, 1, network.kme(2).interKmeClient));
    const moved = stack.move();
    return {
      network,
      asKme2,
      keys,
      transaction: seen[1]!,
      blocks,
      [Symbol.asyncDispose]: () => moved.disposeAsync(),
    };
  } finally {
    await stack.disposeAsync();
  }
}

function takeBack(caller: KmeCaller, transaction: string, recipients: Record<string, string[]>) {
  const request = {
    transaction_ID: transaction,
    recipients: Object.entries(recipients).map(([KME_ID, SAE_IDs]) => ({ KME_ID, SAE_IDs })),
    blocks: [],
    reuse: false,
  };
  return caller.raw("POST", "/kme/v1/take-back", JSON.stringify({ sender_KME_ID: "2", request }));
}

async function assertStillThere({ network, keys }: Scene): Promise<void> {
  const read = await network.client(3).decKeys(1, keyIdsOf(keys));
  assert.equal(read.status, 200, read.text);
}

Deno.test("a KME cannot take back another KME's transaction at a third KME", async () => {
  await using scene = await startScene();
  const answer = await takeBack(scene.asKme2, scene.transaction, { 3: ["3"] });
  assert.deepEqual([answer.status, answer.json], [200, { kind: "unknown" }]);
  await assertStillThere(scene);
});

Deno.test("a transaction of the same id that was sent first changes nothing, and takes back only its own keys", async () => {
  await using scene = await startScene();
  const { network, asKme2, transaction, blocks } = scene;
  const id = crypto.randomUUID();
  // Which of the blocks is spent is not known here; any that is free does.
  for (const block of blocks) {
    const sent = await asKme2.raw(
      "POST",
      "/kme/v1/transactions",
      JSON.stringify({
        sender_KME_ID: "2",
        transactions: [{
          transaction_ID: transaction,
          origin_SAE_ID: "2",
          recipients: [{ KME_ID: "3", SAE_IDs: ["3"] }],
          keys: [{ key_ID: id, size: 256, blocks: [block], padded: randomBytes(32).toString("base64") }],
        }],
      }),
    );
    assert.equal(sent.status, 200, sent.text);
    if (sent.json.answers[0].kind === "activated") break;
  }
  await eventually(async () => {
    const answer = await takeBack(asKme2, transaction, { 3: ["3"] });
    assert.equal(answer.status, 200, answer.text);
    return answer.json.kind === "takenBack";
  }, { what: "the taking back of the own transaction" });
  assertProblem(await network.client(3).decKeys(2, id), 400);
  await assertStillThere(scene);
});
