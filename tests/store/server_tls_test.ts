/** TLS to database servers: verified with the right CA and host, refused otherwise, whoever the certificate claims to be from. */
import assert from "node:assert/strict";
import { Kysely, sql } from "kysely";
import type { DatabaseServer } from "../../src/config/config.ts";
import { parseDatabaseUri } from "../../src/config/database_uri.ts";
import { StoreUnusable } from "../../src/domain/store_errors.ts";
import { openDialect } from "../../src/store/dialects/open.ts";
import { Store } from "../../src/store/store.ts";
import { databaseAvailable, startMariadb, startPostgres } from "../harness/databases.ts";
import { ca, otherCa } from "../tls/front_harness.ts";
import { altNames, basicConstraints, dns, forge, issuerOf, SERVER, usage } from "../x509/forge.ts";
import { OWN } from "./store_fixture.ts";

const SERVERS = {
  postgres: {
    start: startPostgres,
    mode: "sslmode",
    modes: { require: "require", chain: "verify-ca", host: "verify-full" },
    cipher: sql<{ cipher: string }>`select cipher from pg_stat_ssl where pid = pg_backend_pid()`,
  },
  mariadb: {
    start: startMariadb,
    mode: "ssl-mode",
    modes: { require: "REQUIRED", chain: "VERIFY_CA", host: "VERIFY_IDENTITY" },
    cipher: sql<{ cipher: string }>`select variable_value as cipher from information_schema.session_status
      where variable_name = 'Ssl_cipher'`,
  },
} as const;

/** For `localhost`, not for 127.0.0.1. */
const genuine = forge({
  issuer: issuerOf(ca),
  extensions: [basicConstraints(false), usage(SERVER), altNames(dns("localhost"))],
});
/** Has the name of the CA as that of its issuer, but anyone can make it: TLS itself accepts it. */
const impostor = forge({
  issuer: { ...issuerOf(ca), key: forge().key },
  version: null,
  extensions: null,
});

for (const [kind, { start, mode, modes, cipher }] of Object.entries(SERVERS)) {
  const availability = databaseAvailable(kind as keyof typeof SERVERS);
  const ignore = !availability.available && Deno.env.get("CI") !== "true";

  /** What a store says of the server, or nothing when it can be opened. */
  const opening = async (
    uri: string,
    { host = "127.0.0.1", verify, trusted = ca.cert }: {
      host?: string;
      verify: keyof typeof modes;
      trusted?: string;
    },
  ): Promise<string | undefined> => {
    const parsed = parseDatabaseUri(`${uri.replace("127.0.0.1", host)}?${mode}=${modes[verify]}`);
    assert.ok("value" in parsed);
    const server = parsed.value as DatabaseServer;
    const database = verify === "require" ? server : { ...server, tls: { ...server.tls!, ca: trusted } };
    try {
      const store = await Store.open({ database, thisKme: OWN, neighbours: [] });
      await store.close();
    } catch (error) {
      assert.ok(error instanceof StoreUnusable, String(error));
      return error.message;
    }
    const db = new Kysely<unknown>({ dialect: openDialect(database, () => {}).kysely });
    const { rows } = await cipher.execute(db);
    await db.destroy();
    assert.match(rows[0]!.cipher, /^TLS_|GCM|CHACHA/);
  };

  Deno.test({
    name: `${kind}: a server is verified by its chain and its host name`,
    ignore,
    fn: async () => {
      const server = await start({}, genuine.pem);
      try {
        const uri = await server.createDatabase();
        assert.equal(await opening(uri, { host: "localhost", verify: "host" }), undefined);
        assert.match(await opening(uri, { verify: "host" }) ?? "", /is not for 127\.0\.0\.1/);
        assert.equal(await opening(uri, { verify: "chain" }), undefined);
        assert.equal(await opening(uri, { verify: "require" }), undefined);
        for (const verify of ["chain", "host"] as const) {
          const refused = await opening(uri, { host: "localhost", verify, trusted: otherCa.cert });
          assert.match(refused ?? "", /^cannot open the database: .*(issuer|CA|certificate)/i);
        }
      } finally {
        await server.remove();
      }
    },
  });

  Deno.test({
    name: `${kind}: an impostor with a certificate of version 1 is refused before it learns a password`,
    ignore,
    fn: async () => {
      const server = await start({}, impostor.pem);
      try {
        const uri = await server.createDatabase();
        for (const verify of ["chain", "host"] as const) {
          assert.match(await opening(uri, { host: "localhost", verify }) ?? "", /version 1/);
        }
      } finally {
        await server.remove();
      }
    },
  });

  Deno.test({
    name: `${kind}: a server without TLS is refused where TLS is asked for`,
    ignore,
    fn: async () => {
      const server = await start(kind === "mariadb" ? { "skip-ssl": "ON" } : {});
      try {
        const uri = await server.createDatabase();
        assert.match(await opening(uri, { verify: "require" }) ?? "", /ssl|secure/i);
      } finally {
        await server.remove();
      }
    },
  });
}
