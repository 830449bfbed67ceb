/** SIGKILL at random moments under load, again and again. */
import { Audit, pause } from "./audit.ts";
import { KMES, makePair, type PairOptions, SAES } from "./pair.ts";
import { Random } from "./random.ts";

/** @param rounds each kills KME 1, then KME 2, then both at once. */
export async function killsUnderLoad(what: string, rounds: number, options: PairOptions = {}): Promise<void> {
  const random = new Random();
  await using pair = await makePair(options);
  const audit = new Audit({ network: pair.network, kmes: KMES, saes: SAES, random });
  for (const [a, b] of [["1", "1"], ["2", "2"], ["1", "2"]] as const) await audit.addKeys(a, b, 6000);
  await pair.start(...KMES);
  audit.startLoad(2);
  for (let round = 0; round < rounds; round++) {
    for (const victims of [["1"], ["2"], ["1", "2"]]) {
      await audit.untilDelivered(random.between(20, 60));
      // A file is being taken up while its reader dies.
      if (random.chance(0.3)) await audit.addKeys("1", "2", 500);
      await pause(random.between(0, 100));
      await audit.kill(victims, () => pair.kill(...victims));
      await pause(random.between(0, 100));
      await pair.start(...victims);
    }
  }
  await audit.untilDelivered(20);
  await audit.stopLoad();
  await audit.checkClosed(30);
  await pair.settle({ audit });
  await audit.checkLedgers();
  audit.report(what);
}
