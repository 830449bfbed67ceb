/** Masters at both ends use one small pool concurrently until it is empty. */
import assert from "node:assert/strict";
import { Audit, pause } from "./ledger_audit.ts";
import { KMES, makePair, SAES } from "./pair.ts";
import { Random } from "./random.ts";

const BLOCKS = 400;

Deno.test("both ends use up a pool concurrently: no block twice, and none remains", async () => {
  await using pair = await makePair({ options: { inter_kme_timeout_seconds: 4 } });
  const audit = new Audit({ network: pair.network, kmes: KMES, saes: SAES, random: new Random() });
  await audit.addKeys("1", "2", BLOCKS);
  await pair.start(...KMES);
  const use = async (master: string, slave: string) => {
    // Refused because the other end asks for the last blocks too, or because the pool is empty.
    for (let refused = 0; refused < 20;) {
      const answer = await audit.ask(master, [slave]);
      if (answer?.status === 200) {
        await audit.read(slave, master, answer.json.keys.map((key: { key_ID: string }) => key.key_ID));
        continue;
      }
      refused++;
      await pause(20);
    }
  };
  const pairs = [["1", "2"], ["2", "1"], ["11", "22"], ["22", "11"]] as const;
  await Promise.all([...pairs, ...pairs, ...pairs, ...pairs].map(([master, slave]) => use(master, slave)));
  await audit.checkClosed(20);
  await pair.finish({ audit });
  await audit.checkLedgers({ burnt: 0 });
  audit.report("small pool");
  assert.equal(audit.delivered, BLOCKS);
});
