/** A KME is killed while slaves fetch keys whose answers may be repeated: no answer is lost, and no other SAE gets one. */
import assert from "node:assert/strict";
import { findRecords } from "../../src/audit/find_records.ts";
import { databaseTest } from "../harness/databases.ts";
import { eventually } from "../harness/eventually.ts";
import { type DeliveredKey, keysOf } from "../harness/sae_client.ts";
import { KMES, makePair } from "./pair.ts";
import { Random } from "./random.ts";

const KILLS = 3;
const KEYS = 40;

async function killed(databases: [string, string]): Promise<void> {
  const random = new Random();
  const options = { answer_repeat_seconds: 300, audit_log: { directory: "audit" } };
  await using pair = await makePair({ databases, options });
  const { network } = pair;
  for (const kme of KMES) await Deno.mkdir(`${network.kme(kme).directory}/audit`);
  await network.writeKeyFile(1, 2, KILLS * KEYS * 2);
  await pair.start("1", "2");
  await eventually(async () => await pair.stock("1", "2") === KILLS * KEYS * 2);
  const master = network.client(1);
  const slaves = [2, 22].map((sae) => network.client(sae, { maxSockets: 8 }));
  let [repeated, lost] = [0, 0];
  for (let kill = 0; kill < KILLS; kill++) {
    const own = keysOf(await master.encKeys(2, { number: KEYS }));
    const shared = keysOf(await master.encKeys(2, { number: KEYS, additional_slave_SAE_IDs: ["22"] }));
    const wanted = [
      ...own.map((key) => ({ key, slave: 0 })),
      ...shared.flatMap((key) => [0, 1].map((slave) => ({ key, slave }))),
    ];
    const fetch = ({ key, slave }: { key: DeliveredKey; slave: number }) =>
      slaves[slave]!.decKeys(1, key.key_ID);
    const answered = new Set<unknown>();
    const killAt = random.between(1, wanted.length - 20);
    const enough = Promise.withResolvers<void>();
    const all = wanted.map((want) =>
      fetch(want).then((answer) => {
        assertKey(answer, want.key);
        if (answered.add(want).size === killAt) enough.resolve();
      }, () => void lost++)
    );
    await enough.promise;
    await pair.kill("2");
    await Promise.all(all);
    await pair.start("2");
    for (const want of wanted) {
      if (answered.has(want)) repeated++;
      assertKey(await fetch(want), want.key);
    }
    for (const { key_ID } of own) assert.equal((await slaves[1]!.decKeys(1, key_ID)).status, 401);
    const stranger = network.client(2, await network.issueClient(2, { commonName: "no SAE" }));
    assert.equal((await stranger.decKeys(1, own[0]!.key_ID)).status, 401);
  }
  await assertRepeatsRecorded(`${network.kme(2).directory}/audit`);
  console.log(`    ${lost} answers lost, ${repeated} repeated (KME_TEST_SEED=${random.seed})`);
}

/** Each fetch that is recorded as repeated has an earlier record. */
async function assertRepeatsRecorded(directory: string): Promise<void> {
  const fetched = new Set<string>();
  for await (const { record } of findRecords(directory, { kind: "fetch" })) {
    const { sae, key_IDs, outcome } = record.content as { sae: string; key_IDs: string[]; outcome?: string };
    for (const id of key_IDs) {
      assert.ok(outcome !== "repeated" || fetched.has(`${sae} ${id}`), `no earlier record of ${id}`);
      fetched.add(`${sae} ${id}`);
    }
  }
}

/** Fails, without showing it, unless the answer is this key. */
function assertKey(answer: Parameters<typeof keysOf>[0], expected: DeliveredKey): void {
  assert.ok(JSON.stringify(keysOf(answer)) === JSON.stringify([expected]), "another key");
}

const NAME = "answers are repeated after SIGKILL, and only to the SAE that got them";

Deno.test(`sqlite: ${NAME}`, () => killed(["sqlite", "sqlite"]));
for (const kind of ["postgres", "mariadb"] as const) {
  databaseTest(kind, NAME, (uri) => killed(["sqlite", uri]));
}
