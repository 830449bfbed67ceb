/** KMEs killed at any moment: no key is delivered twice, and only keys of requests under way are lost. */
import { databaseTest } from "../harness/databases.ts";
import { EVENTS_OFF } from "../bench/site.ts";
import { killsUnderLoad } from "./kills.ts";

Deno.test("sqlite: SIGKILL at random moments under load", () => killsUnderLoad("sqlite", 7));

Deno.test("sqlite: SIGKILL while 32 requests at a time ask for up to 128 keys each", async () => {
  const load = { workers: 8, numbers: [1, 1, 1, 10, 128], sizes: [256], several: 0, blocks: 15_000 };
  await killsUnderLoad("sqlite, large requests", 1, { env: EVENTS_OFF }, load);
});

for (const kind of ["postgres", "mariadb", "mysql"] as const) {
  databaseTest(kind, "SIGKILL at random moments under load", async (uri, server) => {
    await killsUnderLoad(kind, 1, { databases: [uri, await server.createDatabase()] });
  });
}
