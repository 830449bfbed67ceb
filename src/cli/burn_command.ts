/** `kme burn`: gives up keys that may have been given out already, after a backup was restored. */
import { parseArgs } from "node:util";
import { resolve } from "node:path";
import { nameOf } from "../check/database_checks.ts";
import { burn, type BurnReport, countBurnable } from "../rollback_guard/burn.ts";
import { formatMistake, loadConfig } from "../config/load.ts";
import { configureLog } from "../log.ts";
import { HELP, parseOneFile } from "./one_file.ts";
import { errorMessage } from "../domain/text.ts";

export const BURN_USAGE = `kme burn CONFIG.json5 [--link KME] --yes

Gives up all keys that may have been given out already: every block in the database, every key that waits for its slave,
and every block in the key files that lie in the watched directories. None of them is ever given out again. To be run
after a backup of the database was put back, while the KME does not run. Fresh key files fill the stock again.

  --link KME   only the blocks shared with this KME: for the neighbour of a KME that has burnt its own
  --yes        do it; without it only what would be burnt is said

Exit codes: 0 done; 1 the database or a file cannot be used; 2 a mistake in the configuration, or a bad command line`;

/**
 * Runs `kme burn`.
 * @param args What follows `burn` on the command line.
 * @returns exit code.
 */
export async function burnCommand(args: string[]): Promise<number> {
  const options = parseOneFile(() =>
    parseArgs({
      args,
      allowPositionals: true,
      options: {
        link: { type: "string" },
        yes: { type: "boolean", default: false },
        help: HELP,
      },
    })
  );
  if (typeof options === "string") {
    console.error(`${options}\n\n${BURN_USAGE}`);
    return 2;
  }
  if (options.help) {
    console.log(BURN_USAGE);
    return 0;
  }
  await configureLog();
  const loaded = await loadConfig(options.file);
  if ("mistakes" in loaded) {
    for (const mistake of loaded.mistakes) console.error(formatMistake(mistake));
    return 2;
  }
  const { config } = loaded;
  const { link, yes } = options;
  if (link !== undefined && ![config.thisKme, ...config.otherKmes].some(({ id }) => id.text === link)) {
    console.error(`--link: no KME ${link} is configured`);
    return 2;
  }
  const { database } = config.thisKme;
  console.log(`database: ${database.kind === "sqlite" ? resolve(database.path) : nameOf(database)}`);
  try {
    const report = await (yes ? burn : countBurnable)(config, link);
    console.log(format(report, yes));
    if (!yes) {
      console.error("nothing was burnt; say --yes to do it");
      return 2;
    }
    const neighbours = config.otherKmes.filter((kme) => !("reachedThrough" in kme));
    if (link === undefined && neighbours.length > 0) {
      const names = neighbours.map(({ id }) => id.text).join(", ");
      console.log(
        `The other ends still have the blocks of their links. Run there (KME ${names}), with the KME stopped:\n` +
          `  kme burn CONFIG --link ${config.thisKme.id.text} --yes`,
      );
    }
    return 0;
  } catch (error) {
    console.error(`${options.file}: ${errorMessage(error)}`);
    return 1;
  }
}

function format({ blocks, keys }: BurnReport, done: boolean): string {
  const verb = done ? "burnt" : "to be burnt";
  return `${verb}: ${blocks} blocks, ${keys} keys that waited for their slaves` +
    (done ? "" : ", and what is in the key files");
}
