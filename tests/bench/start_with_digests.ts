/** Starts a KME with digests as key_IDs: what random key_IDs are measured against. */
import { runKme } from "../../src/cli/run_kme.ts";
import { storeDigests } from "./digests_as_key_ids.ts";

storeDigests();

const ProgramWorker = globalThis.Worker;

/** A database in a file is in a thread, to which the change has to be made too. */
globalThis.Worker = class extends ProgramWorker {
  constructor(_script: string | URL, options?: WorkerOptions) {
    super(new URL("store_worker_with_digests.ts", import.meta.url), options);
  }
};

Deno.exit(await runKme(Deno.args[0]!, { handle() {} }));
