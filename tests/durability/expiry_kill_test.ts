/** A key that no slave retrieves is deleted after its lifetime, at both ends. */
import assert from "node:assert/strict";
import { keyIdsOf } from "../harness/sae_client.ts";
import { eventually } from "../harness/eventually.ts";
import { databaseOf } from "./ledger_audit.ts";
import { readLedger } from "./delivery_record.ts";
import { KMES, makePair } from "./pair.ts";

Deno.test("keys that no slave retrieves expire at both ends, and their blocks are deleted", async () => {
  await using pair = await makePair({ options: { key_lifetime_seconds: 2, inter_kme_timeout_seconds: 10 } });
  const { network } = pair;
  for (const [a, b] of [["1", "1"], ["2", "2"], ["1", "2"]] as const) await network.writeKeyFile(a, b, 20);
  await pair.start(...KMES);
  const [one, eleven, two, twentyTwo] = ["1", "11", "2", "22"].map((sae) => network.client(sae));
  const both = keyIdsOf(await two!.encKeys("22", { additional_slave_SAE_IDs: ["11"] }));
  const local = keyIdsOf(await one!.encKeys("11", { number: 2, size: 512 }));
  // The last ones at either end, so that the others have expired when these have.
  const remote = keyIdsOf(await one!.encKeys("2", { number: 3 }));
  const back = keyIdsOf(await twentyTwo!.encKeys("11", { number: 2 }));
  // Within their lifetime they can be read.
  assert.equal((await two!.decKeys("1", remote[0]!)).status, 200);
  assert.equal((await eleven!.decKeys("2", both)).status, 200);
  // Housekeeping records the end: a caller that is no slave of the key is then told that there is none.
  for (const [caller, master, id] of [["22", "1", remote[2]], ["1", "22", back[1]]] as const) {
    await eventually(async () => (await network.client(caller).decKeys(master, id!)).status === 400, {
      what: "the end of the keys",
    });
  }
  const tries = [[two, "1", remote[1]], [eleven, "1", local[0]], [eleven, "22", back[1]], [
    twentyTwo,
    "2",
    both[0],
  ]] as const;
  for (const [slave, master, id] of tries) assert.equal((await slave!.decKeys(master, id!)).status, 400);
  await pair.finish();
  const ledgers = await Promise.all(KMES.map((kme) => readLedger(databaseOf(network, kme))));
  for (const ledger of ledgers) {
    assert.equal(ledger.waiting.size, 0);
    assert.equal(ledger.seen.size, 40);
    // 3 + 2 keys and a pad.
    assert.equal(
      [...ledger.blocks.values()].filter((block) => block.state === "free" && block.link !== "").length >= 28,
      true,
    );
  }
  const counts = ledgers.map((ledger) => Object.fromEntries(ledger.stock));
  assert.deepEqual(counts, [{ 1: 16, 2: 14 }, { 1: 14, 2: 19 }]);
});
