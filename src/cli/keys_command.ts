/** `kme keys`: sample key files for trying out a network. */
import { command, InputError, UsageError } from "./command.ts";
import { printMessage } from "./stderr.ts";
import { wantsJson } from "../log/log_settings.ts";
import { platform } from "../platform.ts";

export const keysCommand = command({
  name: "keys",
  summary: "make sample key files (not from quantum hardware)",
  usage: "DIR... --blocks N [--rate R] [--file-blocks M] [--create]",
  description: [
    "Writes sample key files (not-quantum-*.cor) with random 32-byte blocks, the same into every directory: both ends of a link need the same keys. " +
    "For trials only: real keys come from quantum key distribution devices.",
  ],
  operand: { name: "DIR", what: "directory", many: true, complete: "directory" },
  options: {
    blocks: { value: "N", description: "blocks to write in all; optional with --rate, then without end" },
    rate: {
      value: "R",
      description: "blocks per second, until N are written or Ctrl-C; default: all at once",
    },
    "file-blocks": {
      value: "M",
      description: "blocks in one file; default: all, with --rate those of one second",
    },
    create: { description: "create directories that do not exist" },
  },
  exitCodes: {
    0: "done, or stopped by Ctrl-C",
    1: "a file cannot be written",
    2: "wrong command line, or a directory does not exist or is a file",
  },
  async run({ create, ...values }, directories) {
    const amount = parseAmount(values);
    await requireDirectories(directories, create);
    const { writeSampleKeys } = await import("../tools/sample_keys.ts");
    const stop = new AbortController();
    const abort = () => stop.abort();
    // Windows knows no SIGTERM.
    for (const signal of platform.stopSignals) Deno.addSignalListener(signal, abort);
    const progress = new Progress(amount.blocks);
    try {
      const { blocks, files } = await writeSampleKeys(directories, {
        ...amount,
        signal: stop.signal,
        onProgress: (written) => progress.show(written),
      });
      progress.end();
      printMessage(
        `${blocks} blocks in ${files.length} file(s), in each of: ${directories.join(", ")}`,
        "info",
      );
      return 0;
    } finally {
      progress.end();
      for (const signal of platform.stopSignals) Deno.removeSignalListener(signal, abort);
    }
  },
});

type Values = Readonly<Record<"blocks" | "rate" | "file-blocks", string | undefined>>;

function parseAmount(values: Values): { blocks: number; rate?: number; fileBlocks?: number } {
  const blocks = wholeNumber("blocks", values);
  const fileBlocks = wholeNumber("file-blocks", values);
  const rate = values.rate === undefined ? undefined : Number(values.rate);
  if (blocks === undefined && rate === undefined) throw new UsageError("--blocks N is missing");
  if (rate !== undefined && !(rate > 0 && rate < Infinity)) {
    throw new UsageError(`--rate must be blocks per second, more than 0, not ${values.rate}`);
  }
  return { blocks: blocks ?? Infinity, rate, fileBlocks };
}

function wholeNumber(name: keyof Values, values: Values): number | undefined {
  const text = values[name];
  if (text === undefined) return undefined;
  const number = Number(text);
  if (/^[0-9]+$/.test(text) && Number.isSafeInteger(number) && number >= 1) return number;
  throw new UsageError(`--${name} must be a number of blocks, 1 or more, not ${text}`);
}

/**
 * A mistyped name must not become a directory that no KME watches.
 *
 * @param create whether directories that do not exist will be created.
 */
async function requireDirectories(directories: readonly string[], create: boolean): Promise<void> {
  const mistakes: string[] = [];
  for (const directory of directories) {
    try {
      if (!(await Deno.stat(directory)).isDirectory) mistakes.push(`${directory}: is not a directory`);
    } catch (error) {
      if (error instanceof Deno.errors.NotADirectory) {
        mistakes.push(`${directory}: a part of the path is not a directory`);
      } else if (!(error instanceof Deno.errors.NotFound)) throw error;
      else if (!create) mistakes.push(`${directory}: does not exist; create it, or add --create`);
    }
  }
  if (mistakes.length > 0) throw new InputError(mistakes);
}

/** How far the writing is: one line that changes on a terminal, else a line for each file. */
class Progress {
  readonly #terminal = Deno.stderr.isTerminal() && !wantsJson();
  #open = false;

  constructor(readonly blocks: number) {}

  show(written: number): void {
    const text = this.blocks === Infinity ? `${written} blocks` : `${written} of ${this.blocks} blocks`;
    if (!this.#terminal) return printMessage(text, "info");
    this.#open = true;
    Deno.stderr.writeSync(new TextEncoder().encode(`\r${text}`));
  }

  /** Leaves the line. */
  end(): void {
    if (this.#open) Deno.stderr.writeSync(new TextEncoder().encode("\n"));
    this.#open = false;
  }
}
