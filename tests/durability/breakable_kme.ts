/** `kme CONFIG` whose database thread ends on SIGUSR2, and hangs from one SIGUSR1 to the next. */
import { startCommand } from "../../src/cli/start_command.ts";
import { TestWorker } from "../store/test_worker.ts";

const worker = new TestWorker();
const RealWorker = globalThis.Worker;
globalThis.Worker = class {
  constructor() {
    globalThis.Worker = RealWorker;
    return worker.start();
  }
} as unknown as typeof Worker;

let hanging: ReturnType<TestWorker["hang"]> | undefined;
Deno.addSignalListener("SIGUSR1", () => {
  void hanging?.then(({ goOn }) => goOn());
  hanging = hanging === undefined ? worker.hang() : undefined;
});
Deno.addSignalListener("SIGUSR2", () => void worker.hang().then(({ die }) => die()));

Deno.exit(await startCommand.run(Deno.args));
