/** The statements and settings of docs/operations.md for database servers, run as they are written. */
import assert from "node:assert/strict";
import type { DatabaseServer } from "../../src/config/config.ts";
import { parseDatabaseUri } from "../../src/config/database_uri.ts";
import { Store } from "../../src/store/store.ts";
import { databaseAvailable, type ServerSettings, startMariadb, startPostgres } from "../harness/databases.ts";
import { makeTestCa } from "../harness/test_certificates.ts";
import { delivery, fill, OWN } from "./store_fixture.ts";

const text = await Deno.readTextFile(new URL("../../docs/operations.md", import.meta.url));
const section = text.slice(text.indexOf("### A database server"));

/** A block of the section by its language and a word in it. */
function block(language: string, word: string): string {
  const blocks = [...section.matchAll(/^```(\w*)\n(.*?)^```/gms)];
  const found = blocks.find(([, name, content]) => name === language && content!.includes(word));
  assert.ok(found, `no ${language} block with ${word}`);
  // The addresses are those of the test.
  return found[2]!.replaceAll("10.0.0.%", "127.0.0.1");
}

function statements(word: string): string[] {
  return block("sql", word).split(";").map((statement) => statement.trim()).filter((each) => each !== "");
}

/** The settings but those that name addresses and files, which are the test's. */
function settings(word: string): ServerSettings {
  const lines = block("ini", word).split("\n").flatMap((line) => /^([\w-]+) = '?([^']*)'?$/.exec(line) ?? []);
  const all: [string, string][] = [];
  for (let i = 0; i < lines.length; i += 3) all.push([lines[i + 1]!, lines[i + 2]!]);
  assert.ok(all.length > 3);
  return Object.fromEntries(all.filter(([name]) => !/address|cert|key/.test(name)));
}

const SERVERS = {
  postgres: { start: startPostgres, sql: "CREATE ROLE", ini: "postgresql.conf", ca: "sslrootcert" },
  mariadb: { start: startMariadb, sql: "CREATE USER", ini: "[mariadb]", ca: "ssl-ca" },
} as const;

for (const [kind, { start, sql, ini, ca: parameter }] of Object.entries(SERVERS)) {
  const availability = databaseAvailable(kind as keyof typeof SERVERS);
  const ignore = !availability.available && Deno.env.get("CI") !== "true";
  Deno.test({
    name: `${kind}: the statements and settings of docs/operations.md make a database that a KME can use`,
    ignore,
    fn: async () => {
      const ca = await makeTestCa("CA of database servers");
      const server = await start(settings(ini), await ca.server({ hosts: ["localhost"] }));
      try {
        await server.administer(statements(sql));
        const written = new RegExp(`\\w+://kme1[^\`]*${parameter}=db_ca\\.crt`).exec(section)![0];
        const parsed = parseDatabaseUri(written.replace("db.example", `localhost:${server.port}`));
        assert.ok("value" in parsed);
        const database = parsed.value as DatabaseServer;
        assert.equal(database.tls?.verify, "host");
        const open = () =>
          Store.open({
            database: { ...database, tls: { verify: "host", ca: ca.ca } },
            thisKme: OWN,
            neighbours: [],
          });
        const store = await open();
        await fill(store, 3);
        assert.equal((await store.deliver(delivery(store, 2)))?.length, 2);
        await store.close();
        // And again, as at each start.
        const again = await open();
        assert.equal(await again.freeBlocks(OWN.text), 1);
        await again.close();
        if (kind === "mariadb") {
          await assert.rejects(
            Store.open({ database: { ...database, tls: undefined }, thisKme: OWN, neighbours: [] }),
          );
        }
      } finally {
        await server.remove();
      }
    },
  });
}
