/** Runs the load generator and the servers beside the KMEs as processes of their own. */
import type { LoadJob, LoadResult } from "./load_job.ts";

const ROOT = new URL("../../", import.meta.url).pathname;

export async function load(job: LoadJob): Promise<LoadResult> {
  const child = script("load_client.ts", [], { stdin: "piped", stdout: "piped", stderr: "inherit" }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(JSON.stringify(job)));
  await writer.close();
  const { stdout, code } = await child.output();
  if (code !== 0) throw new Error(`the load generator ended with ${code}`);
  return JSON.parse(new TextDecoder().decode(stdout));
}

export interface ServerProcess extends AsyncDisposable {
  readonly pid: number;
}

/** Starts a server script and waits for its first line. */
export async function serve(name: string, args: readonly string[]): Promise<ServerProcess> {
  const child = script(name, args, { stdin: "null", stdout: "piped", stderr: "inherit" }).spawn();
  const reader = child.stdout.getReader();
  if ((await reader.read()).done) throw new Error(`${name} ended`);
  reader.releaseLock();
  return {
    pid: child.pid,
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await child.stdout.cancel();
      await child.status;
    },
  };
}

export async function print(name: string, args: readonly string[]): Promise<string> {
  const { stdout, code } = await script(name, args, { stderr: "inherit" }).output();
  if (code !== 0) throw new Error(`${name} ended with ${code}`);
  return new TextDecoder().decode(stdout).trim();
}

function script(name: string, args: readonly string[], options: Deno.CommandOptions): Deno.Command {
  return new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "-A",
      "--quiet",
      "--no-check",
      "--config",
      `${ROOT}deno.json`,
      `${ROOT}tests/bench/${name}`,
      ...args,
    ],
    ...options,
  });
}
