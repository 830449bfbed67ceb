/** Whatever moment a KME is killed at: nothing is given twice, nothing is lost that was not on its way. */
import { databaseTest } from "../harness/databases.ts";
import { killsUnderLoad } from "./kills.ts";

Deno.test("sqlite: SIGKILL at random moments under load", () => killsUnderLoad("sqlite", 7));

for (const kind of ["postgres", "mariadb", "mysql"] as const) {
  databaseTest(kind, "SIGKILL at random moments under load", async (uri, server) => {
    await killsUnderLoad(kind, 1, { databases: [uri, await server.createDatabase()] });
  });
}
