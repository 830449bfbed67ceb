/** A KME whose log goes to a pipe that nothing reads. */
import { PROJECT_ROOT } from "./kme_process.ts";

export interface UnreadKme extends Disposable {
  readonly child: Deno.ChildProcess;
}

/** Starts a KME that logs every event; disposing of it kills it. */
export function startUnreadKme(configPath: string): UnreadKme {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--config", `${PROJECT_ROOT}deno.json`, `${PROJECT_ROOT}src/main.ts`, configPath],
    env: { LOG_LEVEL: "trace" },
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).spawn();
  return {
    child,
    [Symbol.dispose]() {
      try {
        child.kill("SIGKILL");
      } catch {
        // It has ended.
      }
    },
  };
}
