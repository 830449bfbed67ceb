/** `kme keys`: sample key files for trying out a network. */
import { parseArgs } from "node:util";
import { writeSampleKeys } from "../tools/sample_keys.ts";
import { errorMessage } from "../domain/text.ts";

export const KEYS_USAGE = `kme keys DIR [DIR2 ...] --blocks N [--rate R] [--file-blocks M]

Writes sample key files (not-quantum-*.cor) with random 32-byte blocks, the same into every directory: both ends of a
link need the same keys. For trials only: real keys come from quantum key distribution devices.

  --blocks N        blocks to write in all; with --rate, without end if left out
  --rate R          blocks a second, until N are written or Ctrl-C; default: at once
  --file-blocks M   blocks in one file; default: all, with --rate those of a second`;

/**
 * Runs `kme keys`.
 * @param args What follows `keys` on the command line.
 * @returns exit code: 0, also after Ctrl-C; 2 for a bad command line; 1 when files cannot be written.
 */
export async function keysCommand(args: string[]): Promise<number> {
  const options = parse(args);
  if (typeof options === "string") {
    console.error(`${options}\n\n${KEYS_USAGE}`);
    return 2;
  }
  if (options.help) {
    console.log(KEYS_USAGE);
    return 0;
  }
  const stop = new AbortController();
  const abort = () => stop.abort();
  // Windows knows no SIGTERM.
  const signals: Deno.Signal[] = Deno.build.os === "windows" ? ["SIGINT"] : ["SIGINT", "SIGTERM"];
  for (const signal of signals) Deno.addSignalListener(signal, abort);
  try {
    const { blocks, files } = await writeSampleKeys(options.directories, {
      ...options,
      signal: stop.signal,
      onProgress: (written) => progress(written, options.blocks),
    });
    endProgress();
    console.error(
      `${blocks} blocks in ${files.length} file(s), in each of: ${options.directories.join(", ")}`,
    );
    return 0;
  } catch (error) {
    endProgress();
    console.error(errorMessage(error));
    return 1;
  } finally {
    for (const signal of signals) Deno.removeSignalListener(signal, abort);
  }
}

interface Options {
  readonly help: boolean;
  readonly directories: readonly string[];
  readonly blocks: number;
  readonly rate?: number;
  readonly fileBlocks?: number;
}

/** The options, or what is wrong with them. */
function parse(args: string[]): Options | string {
  let parsed;
  try {
    parsed = parseArgs({
      args,
      allowPositionals: true,
      options: {
        blocks: { type: "string" },
        rate: { type: "string" },
        "file-blocks": { type: "string" },
        help: { type: "boolean", short: "h", default: false },
      },
    });
  } catch (error) {
    return errorMessage(error);
  }
  const { values, positionals: directories } = parsed;
  if (values.help) return { help: true, directories, blocks: 0 };
  if (directories.length === 0) return "the directory is missing";
  const blocks = values.blocks === undefined ? undefined : wholeNumber(values.blocks);
  const fileBlocks = values["file-blocks"] === undefined ? undefined : wholeNumber(values["file-blocks"]);
  const rate = values.rate === undefined ? undefined : Number(values.rate);
  if (blocks === undefined && rate === undefined) return "--blocks N is missing";
  if (Number.isNaN(blocks)) return `--blocks must be a number of blocks, 1 or more, not ${values.blocks}`;
  if (Number.isNaN(fileBlocks)) {
    return `--file-blocks must be a number of blocks, 1 or more, not ${values["file-blocks"]}`;
  }
  if (rate !== undefined && !(rate > 0 && rate < Infinity)) {
    return `--rate must be blocks a second, more than 0, not ${values.rate}`;
  }
  return { help: false, directories, blocks: blocks ?? Infinity, rate, fileBlocks };
}

/** NaN when it is none, or less than 1. */
function wholeNumber(text: string): number {
  const number = Number(text);
  return /^[0-9]+$/.test(text) && Number.isSafeInteger(number) && number >= 1 ? number : NaN;
}

function progress(written: number, blocks: number): void {
  const text = blocks === Infinity ? `${written} blocks` : `${written} of ${blocks} blocks`;
  write(Deno.stderr.isTerminal() ? `\r${text}` : `${text}\n`);
}

/** Leaves the line of the progress. */
function endProgress(): void {
  if (Deno.stderr.isTerminal()) write("\n");
}

function write(text: string): void {
  Deno.stderr.writeSync(new TextEncoder().encode(text));
}
