/** `kme burn`: destroys the keys of a restored backup. */
import { command, InputError, loadConfiguration } from "./command.ts";
import { CONFIG_OPERAND } from "./description.ts";
import { printMessage } from "./stderr.ts";
import { isNeighbour } from "../domain/network.ts";
import { errorMessage } from "../domain/text.ts";
import type { BurnReport } from "../rollback_guard/burn.ts";

export const burnCommand = command({
  name: "burn",
  summary: "destroy the keys of a restored backup",
  usage: "CONFIG [--link KME] [--yes]",
  description: [
    "Destroys all keys that may have been delivered before: every block in the database, every key that waits for its slave, " +
    "and every block in the key files of the watched directories. None of them is ever delivered again. " +
    "Run it after a backup of the database was restored, while the KME does not run. New key files fill the stock again.",
    "Without --yes it only prints what would be burnt.",
  ],
  operand: CONFIG_OPERAND,
  options: {
    link: {
      value: "KME",
      description: "only the blocks shared with this KME: for a neighbour of a KME that has burnt its own",
    },
    yes: { description: "burn; without it nothing is changed" },
  },
  exitCodes: {
    0: "done",
    1: "the database or a file cannot be used",
    2: "mistake in the configuration, or wrong command line",
  },
  async run({ link, yes }, [file]) {
    const { configureLog, flushLog } = await import("../log.ts");
    await configureLog();
    const { config } = await loadConfiguration(file!);
    const { thisKme, otherKmes } = config;
    if (link !== undefined && ![thisKme, ...otherKmes].some(({ id }) => id.text === link)) {
      throw new InputError([`--link: no KME ${link} is configured`]);
    }
    const { fullNameOf } = await import("../check/database_checks.ts");
    const { recordCommand } = await import("../audit/configured_trail.ts");
    const { burn, countBurnable } = await import("../rollback_guard/burn.ts");
    const { database } = thisKme;
    console.log(`database: ${fullNameOf(database)}`);
    let report: BurnReport;
    try {
      report = yes
        ? await recordCommand(
          thisKme,
          `burn ${file}${link === undefined ? "" : ` --link ${link}`} --yes`,
          () => burn(config, link),
          ({ blocks, keys }) => `${blocks} blocks, ${keys} keys`,
        )
        : await countBurnable(config, link);
    } catch (error) {
      throw new Error(`${file}: ${errorMessage(error)}`, { cause: error });
    } finally {
      await flushLog();
    }
    const { blocks, keys } = report;
    if (!yes) {
      console.log(
        `to be burnt: ${blocks} blocks, ${keys} keys that wait for their slaves, and the contents of the key files`,
      );
      printMessage("nothing was burnt; add --yes to burn", "info");
      return 0;
    }
    console.log(`burnt: ${blocks} blocks, ${keys} keys that waited for their slaves`);
    const neighbours = otherKmes.filter(isNeighbour);
    if (link === undefined && neighbours.length > 0) {
      const names = neighbours.map(({ id }) => id.text).join(", ");
      console.log(
        `The neighbours still have the blocks of their links. Run there (KME ${names}), with the KME stopped:\n` +
          `  kme burn CONFIG --link ${thisKme.id.text} --yes`,
      );
    }
    return 0;
  },
});
