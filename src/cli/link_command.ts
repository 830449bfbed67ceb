/** `kme link`: what a KME shares with one neighbour. */
import { command, InputError, loadConfiguration, UsageError } from "./command.ts";
import { printMessage } from "./stderr.ts";
import { isNeighbour } from "../domain/network.ts";
import { errorMessage, toOneLine } from "../domain/text.ts";
import type { UnmatchedOfFile } from "../rollback_guard/forget.ts";

/** What a file is called whose name another one has now. */
const hexOf = ({ tag }: UnmatchedOfFile) => tag.toString(16).padStart(12, "0");

export const linkCommand = command({
  name: "link",
  summary: "drop blocks of a link that the other end will never get",
  usage: "forget CONFIG LINK --file NAME [--yes]",
  description: [
    "kme link forget drops the blocks of a key file that this KME has and the other end of the link does not have, for a file " +
    "that will never arrive there. The dropped blocks are never used, also if the file arrives later, and the two ends do not " +
    "count it as a difference any more. LINK is the id of the KME at the other end. kme status and the console show the names " +
    "of the files. Run it while the KME does not run.",
    "Without --yes it only prints what would be dropped.",
  ],
  operand: {
    name: "ACTION CONFIG LINK",
    what: "action, forget",
    many: true,
    actions: ["forget"],
    complete: "file",
  },
  options: {
    file: { value: "NAME", description: "name of the key file, without directory" },
    yes: { description: "drop the blocks; without it nothing is changed" },
  },
  exitCodes: {
    0: "done",
    1: "the database cannot be used",
    2: "mistake in the configuration, or wrong command line; no such link, or no such file on it",
  },
  async run({ file, yes }, [action, path, link, ...rest]) {
    if (action !== "forget") throw new UsageError(`unknown action ${action}; use forget`);
    if (path === undefined) throw new UsageError("the configuration file is missing");
    if (link === undefined) throw new UsageError("the link is missing: the id of the KME at its other end");
    if (rest.length > 0) throw new UsageError(`unexpected argument ${rest[0]}`);
    if (file === undefined) throw new UsageError("--file NAME is missing");
    const { configureLog, flushLog } = await import("../log.ts");
    await configureLog();
    const { config } = await loadConfiguration(path);
    const { thisKme: { database }, otherKmes } = config;
    if (!otherKmes.filter(isNeighbour).some(({ id }) => id.text === link)) {
      throw new InputError([`LINK: no link with KME ${link} is configured`]);
    }
    const { fullNameOf } = await import("../check/database_checks.ts");
    const { forget, unmatchedFiles } = await import("../rollback_guard/forget.ts");
    console.log(`database: ${fullNameOf(database)}`);
    try {
      const unmatched = await unmatchedFiles(config, link);
      const named = unmatched.filter(({ names }) => names.includes(file));
      const files = named.length > 0 ? named : unmatched.filter((each) => hexOf(each) === file);
      if (files.length === 0) throw new InputError([noSuchFile(file, link, unmatched)]);
      if (!yes) {
        const blocks = files.reduce((sum, each) => sum + each.blocks, 0);
        console.log(`to be dropped: ${blocks} blocks of ${file} that KME ${link} does not have`);
        printMessage("nothing was dropped; add --yes to drop them", "info");
        return 0;
      }
      const { recordCommand } = await import("../audit/configured_trail.ts");
      const blocks = await recordCommand(
        config.thisKme,
        `link forget ${path} ${link} --file ${file} --yes`,
        () => forget(config, link, files),
        (blocks) => `${blocks} blocks`,
      );
      console.log(`dropped: ${blocks} blocks of ${file} that KME ${link} does not have`);
      return 0;
    } catch (error) {
      if (error instanceof InputError) throw error;
      throw new Error(`${path}: ${errorMessage(error)}`, { cause: error });
    } finally {
      await flushLog();
    }
  },
});

function noSuchFile(file: string, link: string, unmatched: readonly UnmatchedOfFile[]): string {
  const others = unmatched.map((each) => `${each.names[0] ?? hexOf(each)} (${each.blocks} blocks)`);
  return toOneLine(
    `--file: KME ${link} has all blocks of ${file} that are here, as far as is known; ` +
      (others.length === 0 ? "no file has others" : `files with others: ${others.join(", ")}`),
  );
}
