/** A database server is known to be away: requests are refused at once, and neither attempts nor memory grow with them. */
import assert from "node:assert/strict";
import { databaseTest } from "../harness/databases.ts";
import { eventually } from "../harness/eventually.ts";
import { residentBytes } from "../harness/process_files.ts";
import { makeTestNetwork } from "../harness/test_network.ts";
import { scrape } from "../metrics/scrape.ts";

const CALLERS = 32;
const REQUESTS = 6000;
/** Bytes by which the process may grow in as many requests again. */
const MAX_GROWTH = 64 * 2 ** 20;

for (const kind of ["postgres", "mariadb"] as const) {
  databaseTest(
    kind,
    "requests while the server is away are refused without asking it",
    async (uri, server) => {
      await using network = await makeTestNetwork({
        kmes: [{ id: 1, saes: [11], database: uri, console: true }, { id: 2, saes: [21] }],
      });
      await network.writeKeyFile(1, 2, 200);
      const [kme] = await network.startAll();
      const client = network.client(11);
      const request = async () => (await client.encKeys(21)).status;
      await eventually(async () => await request() === 200);
      const failures = async () => {
        const answer = await fetch(`http://127.0.0.1:${network.kme(1).consolePort}/metrics`);
        return scrape(await answer.text()).value("kme_database_errors_total")!;
      };
      await server.stop();
      await kme!.waitForLine(/the database is away/);
      const before = await failures();
      const statuses = new Map<number, number>();
      const send = () =>
        Promise.all(Array.from({ length: CALLERS }, async () => {
          for (let i = 0; i < REQUESTS / CALLERS; i++) {
            const status = await request();
            statuses.set(status, (statuses.get(status) ?? 0) + 1);
          }
        }));
      await send();
      const attempts = await failures() - before;
      if (Deno.build.os === "linux") {
        const used = await residentBytes(kme!.pid);
        await send();
        const growth = await residentBytes(kme!.pid) - used;
        assert.ok(growth < MAX_GROWTH, `${growth >> 20} MiB more after ${REQUESTS} requests`);
      }
      await server.start();
      // By itself.
      await eventually(async () => await request() === 200);
      assert.deepEqual([...statuses.keys()], [503]);
      assert.ok(attempts < REQUESTS / 50, `${attempts} attempts for ${REQUESTS} requests`);
      assert.equal(kme!.lines.filter((line) => /the database is away/.test(line)).length, 1);
      assert.equal(await kme!.stop(), 0);
    },
    { stopsServer: true },
  );
}
