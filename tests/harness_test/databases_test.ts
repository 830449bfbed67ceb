import assert from "node:assert/strict";
import mysql from "mysql2/promise";
import pg from "pg";
import {
  type DatabaseKind,
  databaseTest,
  queryDatabase,
  startMariadb,
  startMysql,
  startPostgres,
  type TestDatabaseServer,
} from "../harness/databases.ts";

async function portIsClosed(port: number): Promise<boolean> {
  try {
    (await Deno.connect({ hostname: "127.0.0.1", port })).close();
    return false;
  } catch {
    return true;
  }
}

/** Directories of servers, whose names are in the command lines of their processes (Linux). */
function serverDirectories(): string[] {
  return [...Deno.readDirSync("/tmp")].map((entry) => entry.name)
    .filter((name) => name.startsWith("kme-db-"));
}

function processesNaming(text: string): string[] {
  const found: string[] = [];
  for (const { name } of Deno.readDirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const commandLine = Deno.readTextFileSync(`/proc/${name}/cmdline`);
      if (commandLine.includes(text)) found.push(commandLine.replaceAll("\0", " "));
    } catch {
      // Ended meanwhile.
    }
  }
  return found;
}

const START: Record<DatabaseKind, () => Promise<TestDatabaseServer>> = {
  postgres: startPostgres,
  mariadb: startMariadb,
  mysql: startMysql,
};

for (const kind of ["postgres", "mariadb", "mysql"] as const) {
  let firstPort: number;

  // These tests look at one server from test to test.
  const own = { ownServer: true };

  databaseTest(kind, "gives each test an empty database of its own on one server", async (uri, server) => {
    firstPort = server.port;
    await queryDatabase(uri, "CREATE TABLE t (n INTEGER)");
    const other = await server.createDatabase();
    assert.notEqual(other, uri);
    await queryDatabase(other, "CREATE TABLE t (n INTEGER)");
    assert.deepEqual(await queryDatabase(other, "SELECT n FROM t"), []);
  }, own);

  databaseTest(kind, "names a database as asked, and refuses a name that needs quotes", async (_, server) => {
    const uri = await server.createDatabase("chosen_name");
    assert.match(uri, /\/chosen_name$/);
    await queryDatabase(uri, "SELECT 1");
    await assert.rejects(server.createDatabase('x"; DROP'), /not a plain database name/);
    await assert.rejects(server.createDatabase("chosen_name"), /exists/);
  }, own);

  databaseTest(kind, "drops a database", async (_, server) => {
    const uri = await server.createDatabase();
    await queryDatabase(uri, "SELECT 1");
    await server.dropDatabase(uri);
    await assert.rejects(queryDatabase(uri, "SELECT 1"), /does not exist|Unknown database|denied/);
  }, own);

  databaseTest(kind, "has a user who needs the password and sees no other database", async (uri, server) => {
    if (!server.controllable) return;
    const url = new URL(uri);
    assert.match(url.password, /%/);
    url.password = "wrong";
    await assert.rejects(queryDatabase(url.href, "SELECT 1"), /password authentication failed|Access denied/);
    await assert.rejects(queryDatabase(uri, "CREATE DATABASE not_allowed"), /denied/);
  }, own);

  databaseTest(kind, "keeps the data over stop and start", async (uri, server) => {
    assert.equal(server.port, firstPort);
    await queryDatabase(uri, "CREATE TABLE t (n INTEGER)");
    await queryDatabase(uri, "INSERT INTO t VALUES (7)");
    await server.stop();
    assert.ok(await portIsClosed(server.port));
    await server.stop();
    await server.start();
    await server.start();
    assert.deepEqual((await queryDatabase(uri, "SELECT n FROM t")).map((row) => ({ ...row as object })), [{
      n: 7,
    }]);
  }, { stopsServer: true });

  databaseTest(kind, "keeps the data over a crash, with a client connected", async (uri, server) => {
    await queryDatabase(uri, "CREATE TABLE t (n INTEGER)");
    await queryDatabase(uri, "INSERT INTO t VALUES (8)");
    const held = kind === "postgres" ? new pg.Client(uri) : await mysql.createConnection(uri);
    (held as { on(event: string, listener: () => void): unknown }).on("error", () => {});
    if (held instanceof pg.Client) await held.connect();
    await server.kill();
    assert.ok(await portIsClosed(server.port));
    await server.start();
    assert.deepEqual((await queryDatabase(uri, "SELECT n FROM t")).map((row) => ({ ...row as object })), [{
      n: 8,
    }]);
    await server.stop();
  }, { stopsServer: true });

  databaseTest(kind, "runs again when the test before left it stopped", async (uri) => {
    assert.equal((await queryDatabase(uri, "SELECT 1 AS one")).length, 1);
  }, own);

  databaseTest(kind, "leaves no process and no directory when removed", async () => {
    const before = serverDirectories();
    const server = await START[kind]();
    if (!server.controllable) return;
    const [name] = serverDirectories().filter((each) => !before.includes(each));
    assert.ok(name !== undefined);
    if (Deno.build.os === "linux") assert.notEqual(processesNaming(name).length, 0);
    await server.remove();
    assert.ok(!serverDirectories().includes(name));
    if (Deno.build.os === "linux") assert.deepEqual(processesNaming(name), []);
    assert.ok(await portIsClosed(server.port));
  }, own);
}
