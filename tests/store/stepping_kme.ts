/** `kme CONFIG` whose system clock is set two hours forward by SIGUSR1, and back by SIGUSR2. */
import { startCommand } from "../../src/cli/start_command.ts";

const STEP_MS = 2 * 3_600_000;

const RealDate = Date;
let ahead = 0;
globalThis.Date = class extends RealDate {
  // deno-lint-ignore no-explicit-any
  constructor(...args: any[]) {
    super(...(args.length === 0 ? [RealDate.now() + ahead] : args) as []);
  }
  static override now(): number {
    return RealDate.now() + ahead;
  }
} as DateConstructor;
Deno.addSignalListener("SIGUSR1", () => ahead += STEP_MS);
Deno.addSignalListener("SIGUSR2", () => ahead -= STEP_MS);

Deno.exit(await startCommand.run(Deno.args));
