/** KMEs killed at any moment: no key that an SAE got is without its record in the audit log. */
import { join } from "node:path";
import { databaseTest } from "../harness/databases.ts";
import { killsUnderLoad, type Load } from "./kills.ts";
import type { PairOptions } from "./pair.ts";

const LOG: PairOptions = {
  edit: ({ this_kme }) => {
    const directory = join(this_kme.key_directory_to_watch, "audit");
    Deno.mkdirSync(directory);
    // Small files, so that a KME is killed while it begins one.
    this_kme.audit_log = { directory, rotate_mib: 1 };
  },
};

const CHECK: Load = {
  check: (audit, { network }) =>
    audit.checkRecords((kme) => network.kme(kme).config.this_kme.audit_log.directory),
};

Deno.test("sqlite: SIGKILL at random moments under load loses no record of a key", async () => {
  await killsUnderLoad("sqlite, audit log", 5, LOG, CHECK);
});

databaseTest("postgres", "SIGKILL under load loses no record of a key", async (uri, server) => {
  const databases = [uri, await server.createDatabase()] as const;
  await killsUnderLoad("postgres, audit log", 1, { ...LOG, databases }, CHECK);
});
