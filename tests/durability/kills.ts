/** Repeated SIGKILL at random moments under load. */
import { Audit, type AuditOptions, pause } from "./ledger_audit.ts";
import { KMES, makePair, type Pair, type PairOptions, SAES } from "./pair.ts";
import { Random } from "./random.ts";

export interface Load extends Pick<AuditOptions, "sizes" | "numbers" | "several"> {
  /** Requests under way for each of the four SAEs; 2 by default. */
  readonly workers?: number;
  /** Blocks in each pool; 6000 by default. */
  readonly blocks?: number;
  /** Further checks, when both KMEs have stopped. */
  readonly check?: (audit: Audit, pair: Pair) => Promise<void>;
}

/** @param rounds each kills KME 1, then KME 2, then both at once. */
export async function killsUnderLoad(
  what: string,
  rounds: number,
  options: PairOptions = {},
  { workers = 2, blocks = 6000, check, ...requests }: Load = {},
): Promise<void> {
  const random = new Random();
  await using pair = await makePair(options);
  const audit = new Audit({ network: pair.network, kmes: KMES, saes: SAES, random, ...requests });
  for (const [a, b] of [["1", "1"], ["2", "2"], ["1", "2"]] as const) await audit.addKeys(a, b, blocks);
  await pair.start(...KMES);
  await pair.untilStocked(blocks);
  audit.startLoad(workers);
  for (let round = 0; round < rounds; round++) {
    for (const victims of [["1"], ["2"], ["1", "2"]]) {
      await audit.untilDelivered(random.between(20, 60));
      // A file is being ingested when the KME is killed.
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
  await pair.finish({ audit });
  await audit.checkLedgers();
  await check?.(audit, pair);
  audit.report(what);
}
