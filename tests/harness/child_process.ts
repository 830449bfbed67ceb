/** Child processes that do not outlive the test process. */

export interface ChildOptions {
  args: string[];
  cwd?: string;
  env?: Record<string, string>;
  /** Run as this user of the system; only possible as root. */
  user?: string;
}

/** A running program whose output is collected by line. */
export interface ChildProcess {
  readonly pid: number;
  /** Lines of stderr and stdout in the order they came, without line ends. */
  readonly lines: readonly string[];
  /** From now on its output is read, but not kept in {@linkcode lines}. */
  discardOutput(): void;
  /** Settles when the program has ended and all its output has been read. */
  readonly exited: Promise<Deno.CommandStatus>;
  /** The first line, past or future, that matches. Rejects when the program ends or `timeout` ms pass before. */
  waitForLine(pattern: RegExp, timeout?: number): Promise<string>;
  /** Sends a signal; does nothing when the program has ended. */
  signal(signal: Deno.Signal): void;
  /** Sends a signal and awaits the end; escalates to SIGKILL and rejects when that takes longer than `timeout` ms. */
  end(signal: Deno.Signal, timeout?: number): Promise<Deno.CommandStatus>;
}

const live = new Set<Deno.ChildProcess>();

globalThis.addEventListener("unload", () => {
  for (const child of live) kill(child, "SIGKILL");
});

/** Starts a program; stdout and stderr are collected. */
export function startChild(program: string, options: ChildOptions): ChildProcess {
  const { command, args } = underWatch(program, options.args, options.user);
  const child = new Deno.Command(command, {
    args,
    cwd: options.cwd,
    env: options.env,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  live.add(child);

  const lines: string[] = [];
  const watchers = new Set<(line: string) => void>();
  let isKept = true;
  const collect = async (stream: ReadableStream<Uint8Array<ArrayBuffer>>) => {
    const decoder = new TextDecoder();
    let rest = "";
    const add = (line: string) => {
      lines.push(line);
      for (const watcher of watchers) watcher(line);
    };
    for await (const bytes of stream) {
      if (!isKept) continue;
      const parts = (rest + decoder.decode(bytes, { stream: true })).split(/\r?\n/);
      rest = parts.pop()!;
      parts.forEach(add);
    }
    if (rest !== "") add(rest);
  };
  const output = Promise.all([collect(child.stderr), collect(child.stdout)]);
  const exited = child.status.then(async (status) => {
    live.delete(child);
    await output;
    return status;
  });

  const waitForLine = (pattern: RegExp, timeout = 30_000) => {
    const past = lines.find((line) => matches(pattern, line));
    if (past !== undefined) return Promise.resolve(past);
    return new Promise<string>((resolve, reject) => {
      const done = () => {
        watchers.delete(watcher);
        clearTimeout(timer);
      };
      const watcher = (line: string) => {
        if (!matches(pattern, line)) return;
        done();
        resolve(line);
      };
      const fail = (why: string) => {
        done();
        reject(new Error(`no line matches ${pattern}: ${why}\n${lines.join("\n")}`));
      };
      const timer = setTimeout(() => fail(`not within ${timeout} ms`), timeout);
      watchers.add(watcher);
      exited.then((status) => fail(`the program ended with ${describe(status)}`));
    });
  };

  const end = async (signal: Deno.Signal, timeout = 30_000) => {
    kill(child, signal);
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      kill(child, "SIGKILL");
    }, timeout);
    const status = await exited;
    clearTimeout(timer);
    if (late) throw new Error(`${signal} did not end the program within ${timeout} ms\n${lines.join("\n")}`);
    return status;
  };

  return {
    pid: child.pid,
    lines,
    discardOutput: () => void (isKept = false),
    exited,
    waitForLine,
    end,
    signal: (signal) => kill(child, signal),
  };
}

/** Exit code, or signal, in words. */
export function describe(status: Deno.CommandStatus): string {
  return status.signal === null ? `exit code ${status.code}` : status.signal;
}

/** Result of a program that ran to its end. */
export interface Output {
  code: number;
  stdout: string;
  stderr: string;
}

/** Runs a program to its end. */
export async function runChild(program: string, options: ChildOptions): Promise<Output> {
  const { command, args } = underWatch(program, options.args, options.user);
  const { code, stdout, stderr } = await new Deno.Command(command, {
    args,
    cwd: options.cwd,
    env: options.env,
    stdin: "null",
  }).output();
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

/** First directory of PATH, or of `more`, that holds the program; `undefined` when none does. */
export function findProgram(name: string, more: string[] = []): string | undefined {
  const directories = (Deno.env.get("PATH") ?? "").split(Deno.build.os === "windows" ? ";" : ":");
  for (const directory of [...more, ...directories]) {
    if (directory === "") continue;
    const path = `${directory}/${name}`;
    try {
      if (Deno.statSync(path).isFile) return path;
    } catch {
      // Not there.
    }
  }
  return undefined;
}

const setpriv = Deno.build.os === "linux" ? findProgram("setpriv", ["/usr/bin"]) : undefined;

/** The command line with which a program ends when this process is killed, for which `unload` does not run (Linux). */
export function underWatch(
  program: string,
  args: string[],
  user?: string,
): { command: string; args: string[] } {
  if (setpriv !== undefined) {
    const as = user === undefined ? [] : [`--reuid=${user}`, `--regid=${user}`, "--clear-groups"];
    return { command: setpriv, args: [...as, "--pdeathsig", "KILL", "--", program, ...args] };
  }
  if (user !== undefined) return { command: "runuser", args: ["-u", user, "--", program, ...args] };
  return { command: program, args };
}

function kill(child: Deno.ChildProcess, signal: Deno.Signal): void {
  try {
    child.kill(signal);
  } catch {
    // It has ended already.
  }
}

function matches(pattern: RegExp, line: string): boolean {
  pattern.lastIndex = 0;
  return pattern.test(line);
}
