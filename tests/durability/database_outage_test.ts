/** The database server of both KMEs stops under load and starts again. */
import assert from "node:assert/strict";
import { databaseTest } from "../harness/databases.ts";
import { Audit } from "./ledger_audit.ts";
import { KMES, makePair, SAES } from "./pair.ts";
import { Random } from "./random.ts";

/** Milliseconds in which a request is answered while the database does not run. */
const TIME_LIMIT_MS = 40_000;

for (const kind of ["postgres", "mariadb", "mysql"] as const) {
  databaseTest(
    kind,
    "the server is killed, and stopped, and started again under load",
    async (uri, server) => {
      await using pair = await makePair({ databases: [uri, await server.createDatabase()] });
      const { network } = pair;
      const audit = new Audit({ network, kmes: KMES, saes: SAES, random: new Random() });
      for (const [a, b] of [["1", "1"], ["2", "2"], ["1", "2"]] as const) await audit.addKeys(a, b, 6000);
      await pair.start(...KMES);
      await pair.untilStocked(6000);
      audit.startLoad(2);
      for (const end of ["kill", "stop"] as const) {
        await audit.untilDelivered(50);
        await audit.kill(KMES, async () => {
          await server[end]();
          for (const [master, slave] of [["1", "2"], ["2", "22"]] as const) {
            const begin = performance.now();
            assert.equal((await network.client(master).encKeys(slave)).status, 503);
            assert.ok(performance.now() - begin < TIME_LIMIT_MS, "the answer came late");
          }
          await server.start();
          // The KMEs reconnect by themselves.
          await audit.untilDelivered(20);
        });
      }
      await audit.untilDelivered(20);
      await audit.stopLoad();
      await audit.checkClosed(20);
      await pair.finish({ audit });
      await audit.checkLedgers();
      audit.report(`${kind} away`);
    },
    { stopsServer: true },
  );
}
