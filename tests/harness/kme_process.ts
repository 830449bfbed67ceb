/** The program under test, run as a process of its own. */
import { fileURLToPath } from "node:url";
import { type ChildProcess, describe, type Output, runChild, startChild } from "./child_process.ts";

/** Root directory of the project. */
export const PROJECT_ROOT: string = fileURLToPath(new URL("../../", import.meta.url));

const READY = /\bready\b/;

export interface KmeOptions {
  /** Added to the environment of the test process. */
  env?: Record<string, string>;
  /** Command-line arguments after the configuration's path. */
  args?: string[];
  /** Working directory; the project's root by default. */
  cwd?: string;
  /** Program to run instead of `src/main.ts`; for a compiled binary, and for tests of this harness. */
  program?: KmeProgram;
  /** Milliseconds until the KME must be ready; 60 s by default. */
  timeout?: number;
  /** Reads what it writes once it is ready, but does not keep it: for a log of many lines. */
  discardOutput?: boolean;
}

/** Either a script for `deno run -A`, or an executable file. */
export type KmeProgram = { script: string } | { executable: string };

/** A KME that said that it is ready. */
export interface KmeProcess extends AsyncDisposable {
  readonly pid: number;
  /** What it wrote to stderr and stdout so far, by line. */
  readonly lines: readonly string[];
  /** Settles when it has ended, for whatever reason, and its output has been read. */
  readonly exited: Promise<Deno.CommandStatus>;
  /** First line, past or future, that matches; rejects when the KME ends before, or after `timeout` ms (30 s). */
  waitForLine(pattern: RegExp, timeout?: number): Promise<string>;
  /** SIGTERM; the exit code. Rejects, after SIGKILL, when it does not end within 30 s. */
  stop(): Promise<number>;
  /** SIGKILL, as a crash; resolves when it is gone. */
  kill(): Promise<void>;
  signal(signal: Deno.Signal): void;
}

/**
 * Starts a KME and awaits the line that says that it is ready.
 *
 * @throws Error with all its output, when it ends or the time passes before it is ready.
 */
export async function startKme(configPath: string, options: KmeOptions = {}): Promise<KmeProcess> {
  const { program, args } = commandLine([configPath, ...options.args ?? []], options.program);
  const child: ChildProcess = startChild(program, {
    args,
    cwd: options.cwd ?? PROJECT_ROOT,
    env: options.env,
  });
  try {
    await child.waitForLine(READY, options.timeout ?? 60_000);
  } catch (error) {
    const status = await child.end("SIGKILL");
    const what = `KME ${configPath} was not ready (${describe(status)})`;
    throw new Error(`${what}; its output:\n${child.lines.join("\n")}`, { cause: error });
  }
  if (options.discardOutput) child.discardOutput();
  const kill = async () => {
    await child.end("SIGKILL");
  };
  return {
    pid: child.pid,
    lines: child.lines,
    exited: child.exited,
    waitForLine: child.waitForLine,
    stop: async () => (await child.end("SIGTERM")).code,
    kill,
    signal: child.signal,
    [Symbol.asyncDispose]: kill,
  };
}

/** Runs the program with these arguments until it ends; for tests of its command line. */
export function runKme(args: string[], options: Omit<KmeOptions, "args" | "timeout"> = {}): Promise<Output> {
  const command = commandLine(args, options.program);
  return runChild(command.program, {
    args: command.args,
    cwd: options.cwd ?? PROJECT_ROOT,
    env: options.env,
  });
}

function commandLine(args: string[], program: KmeProgram = { script: `${PROJECT_ROOT}src/main.ts` }) {
  if ("executable" in program) return { program: program.executable, args };
  return {
    program: Deno.execPath(),
    args: ["run", "-A", "--config", `${PROJECT_ROOT}deno.json`, program.script, ...args],
  };
}
