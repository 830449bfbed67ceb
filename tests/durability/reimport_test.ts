/** Key files that appear again: under other names, touched, after a restart, after their keys were used. */
import assert from "node:assert/strict";
import { eventually } from "../harness/eventually.ts";
import { Audit } from "./ledger_audit.ts";
import { KMES, makePair, SAES } from "./pair.ts";
import { Random } from "./random.ts";

const BLOCKS = 120;
const STEP = 30;

for (const deleted of [false, true]) {
  Deno.test(`key files that ${deleted ? "are deleted" : "stay"} and appear again give no block twice`, async () => {
    await using pair = await makePair({
      options: { delete_key_file_after_read: deleted, inter_kme_timeout_seconds: 10 },
    });
    const { network } = pair;
    const audit = new Audit({ network, kmes: KMES, saes: SAES, random: new Random() });
    const content = await audit.addKeys("1", "2", BLOCKS, "first.cor");
    const own = await audit.addKeys("1", "1", BLOCKS, "own.cor");
    let left = BLOCKS;
    const use = async () => {
      const shared = await audit.ask("1", ["2"], { number: STEP / 2 });
      const back = await audit.ask("22", ["11"], { number: STEP / 2 });
      const local = await audit.ask("1", ["11"], { number: STEP });
      for (
        const [answer, slave, master] of [[shared, "2", "1"], [back, "11", "22"], [local, "11", "1"]] as const
      ) {
        assert.equal(answer?.status, 200, `no keys: ${answer?.json?.message}`);
        await audit.read(slave, master, answer!.json.keys.map((key: { key_ID: string }) => key.key_ID));
      }
      left -= STEP;
    };
    const putAgain = async (name: string) => {
      await network.writeKeyFile("1", "2", content, { name });
      await network.writeKeyFile("1", "1", own, { name });
      if (!deleted) {
        for (const kme of KMES) {
          await touch(`${network.keyDirectory(kme, kme === "1" ? "2" : "1")}/first.cor`);
        }
      }
    };
    /** Files are read in order: when the block of a new file is in stock, the files before it have been read too. */
    const untilRead = async (name: string) => {
      await audit.addKeys("1", "2", 1, name);
      await audit.addKeys("1", "1", 1, name);
      left++;
      await eventually(async () => {
        assert.deepEqual(
          [await pair.stock("1", "2"), await pair.stock("2", "1"), await pair.stock("1", "1")],
          [
            left,
            left,
            left,
          ],
        );
        return true;
      }, { what: "the stock without a block twice", timeout: 20_000 });
    };
    await pair.start(...KMES);
    await use();
    await putAgain("again-1.cor");
    await untilRead("fresh-1.cor");
    await pair.stop();
    await putAgain("again-2.cor");
    await pair.start(...KMES);
    await untilRead("fresh-2.cor");
    await use();
    // As after a crash.
    await pair.kill(...KMES);
    await putAgain("again-3.cor");
    await pair.start(...KMES);
    await untilRead("fresh-3.cor");
    while (left >= STEP) await use();
    await putAgain("again-4.cor");
    await untilRead("fresh-4.cor");
    await audit.checkClosed(20);
    await pair.finish({ audit });
    await audit.checkLedgers({ burnt: 0 });
  });
}

async function touch(path: string): Promise<void> {
  await Deno.utime(path, new Date(), new Date());
}
