import assert from "node:assert/strict";
import Sqlite from "better-sqlite3";
import net from "node:net";
import tls from "node:tls";
import { once } from "node:events";
import { checkClock } from "../../src/check/clock_checks.ts";
import { checkDatabase, lookAtDatabase } from "../../src/check/database_checks.ts";
import { checkOpenFiles } from "../../src/check/limit_checks.ts";
import { checkDirectories } from "../../src/check/directory_checks.ts";
import { type CheckLine, exitCode } from "../../src/check/check_line.ts";
import type { Config, Database } from "../../src/config/config.ts";
import { Store } from "../../src/store/store.ts";
import { databaseTest } from "../harness/databases.ts";
import { makeTempDir } from "../harness/temp_dir.ts";
import {
  checked,
  configOf,
  found,
  putServer,
  serverCertificate,
  twoKmes,
  withoutRights,
} from "./check_fixture.ts";

const KEYS = "this_kme.key_directory_to_watch";
const DATABASE = "this_kme.db_uri";
const AGE = "age of the database";
const LISTEN = "this_kme.saes_https_interface.listen_address";
const CONSOLE = "this_kme.debugging_http_interface";
const posixOnly = { ignore: Deno.build.os === "windows" };

async function names(directory: string): Promise<string[]> {
  return (await Array.fromAsync(Deno.readDir(directory))).map(({ name }) => name).toSorted();
}

Deno.test("key files to ingest are counted, and nothing is left behind", async () => {
  await using network = await twoKmes("sqlite");
  await network.writeKeyFile(1, 1, 3);
  const before = await names(network.kme(1).directory);
  const lines = await checked(network);
  found(lines, "ok", KEYS, /is readable and writable; 1 key file to ingest/);
  found(lines, "ok", DATABASE, /kme\.db does not exist yet; the start creates it/);
  assert.deepEqual(await names(network.kme(1).directory), before);
  assert.equal((await names(network.keyDirectory(1, 1))).length, 1);
});

Deno.test(
  "a key directory has to be writable where files are deleted, and only there",
  posixOnly,
  async () => {
    await using network = await twoKmes();
    await Deno.chmod(network.directory, 0o755);
    await Deno.chmod(network.keyDirectory(1, 1), 0o555);
    const config = await configOf(network);
    const lines = await withoutRights(() => checkDirectories(config));
    found(lines, "fail", KEYS, /not writable for this user, but delete_key_file_after_read is true/);
    assert.equal(exitCode(lines), 1);
    const kept = { ...config, thisKme: { ...config.thisKme, deleteKeyFileAfterRead: false } };
    found(await withoutRights(() => checkDirectories(kept)), "ok", KEYS, /is readable; no key files/);
  },
);

Deno.test("the marker of a database server has to be writable among the keys", posixOnly, async () => {
  await using network = await twoKmes();
  await Deno.chmod(network.directory, 0o755);
  await Deno.chmod(network.keyDirectory(1, 1), 0o555);
  const config = await configOf(network);
  const kept = (database: Database) =>
    withoutRights(() =>
      checkDirectories({ ...config, thisKme: { ...config.thisKme, database, deleteKeyFileAfterRead: false } })
    );
  const server: Database = { kind: "postgres", uri: "postgres://kme@db.example/kme" };
  found(await kept(server), "warn", KEYS, /not writable for this user, so .*kme\.generation/);
  assert.ok((await kept({ kind: "memory" })).every(({ level }) => level === "ok"));
  await Deno.chmod(network.keyDirectory(1, 1), 0o777);
  found(await kept(server), "ok", KEYS, /kme\.generation is writable/);
});

Deno.test("a key file that is not readable is named", posixOnly, async () => {
  await using network = await twoKmes();
  await Deno.chmod(network.directory, 0o755);
  await Deno.chmod(network.keyDirectory(1, 1), 0o777);
  await Deno.writeFile(`${network.keyDirectory(1, 1)}/first.cor`, new Uint8Array(32), { mode: 0o000 });
  const config = await configOf(network);
  found(await withoutRights(() => checkDirectories(config)), "fail", KEYS, /first\.cor is not readable/);
});

Deno.test("what only has the name of a key file is named, and not opened", posixOnly, async () => {
  await using network = await twoKmes();
  const directory = network.keyDirectory(1, 1);
  await Deno.writeFile(`${directory}/first.cor`, new Uint8Array(32));
  await Deno.symlink(`${network.kme(1).directory}/saes-server-key.pem`, `${directory}/link.cor`);
  await Deno.symlink(`${directory}/nowhere`, `${directory}/dangling.cor`);
  await Deno.mkdir(`${directory}/directory.cor`);
  // Opening it would wait for a writer.
  assert.equal((await new Deno.Command("mkfifo", { args: [`${directory}/pipe.cor`] }).output()).code, 0);
  const lines = await checkDirectories(await configOf(network));
  const { fix } = found(
    lines,
    "warn",
    KEYS,
    /4 entries are named like key files but are no regular files, such as .*\.cor/,
  );
  assert.match(fix!, /remove/);
});

Deno.test("a key directory behind a symbolic link is judged, not the link", posixOnly, async () => {
  await using network = await twoKmes();
  const directory = network.keyDirectory(1, 1);
  await Deno.chmod(directory, 0o755);
  await Deno.rename(directory, `${directory}-elsewhere`);
  await Deno.symlink(`${directory}-elsewhere`, directory);
  found(await checkDirectories(await configOf(network)), "ok", KEYS, /is readable/);
  await Deno.chmod(`${directory}-elsewhere`, 0o777);
  found(await checkDirectories(await configOf(network)), "warn", KEYS, /may be written by all users/);
});

Deno.test("a key file of an unexpected owner is named", { ignore: Deno.uid() !== 0 }, async () => {
  await using network = await twoKmes();
  const directory = network.keyDirectory(1, 1);
  await Deno.writeFile(`${directory}/first.cor`, new Uint8Array(32));
  const config = await configOf(network);
  // As the installation guide has it: the files and the directory belong to the user that delivers them.
  for (const path of [directory, `${directory}/first.cor`]) await Deno.chown(path, 1234, 1234);
  found(await checkDirectories(config), "ok", KEYS, /1 key file to ingest/);
  await Deno.writeFile(`${directory}/second.cor`, new Uint8Array(32));
  await Deno.chown(`${directory}/second.cor`, 4321, 1234);
  found(await checkDirectories(config), "warn", KEYS, /second\.cor belongs to user 4321/);
});

Deno.test("the directory of an SQLite database has to be writable", posixOnly, async () => {
  await using network = await twoKmes("sqlite");
  await Deno.chmod(network.directory, 0o755);
  await Deno.chmod(network.kme(1).directory, 0o555);
  const config = await configOf(network);
  const lines = await withoutRights(() => checkDirectories(config));
  found(lines, "fail", DATABASE, /not writable for this user/);
});

/** A database file as the first start leaves it, with what is done to it afterwards. */
async function madeDatabase(
  database: Database & { kind: "sqlite" },
  statement = "",
  thisKme = { text: "1", integer: true },
): Promise<void> {
  const store = await Store.open({ database, thisKme, neighbours: [] });
  await store.close();
  const file = new Sqlite(database.path);
  file.exec(statement);
  file.close();
}

async function sqlite(statement?: string, thisKme?: { text: string; integer: boolean }) {
  const temp = await makeTempDir();
  const database = { kind: "sqlite", path: `${temp.path}/kme.db` } as const;
  await madeDatabase(database, statement, thisKme);
  return { temp, database };
}

function checkedDatabase(database: Database): Promise<CheckLine[]> {
  return checkedConfig(withDatabase(database));
}

async function checkedConfig(config: Config): Promise<CheckLine[]> {
  return await checkDatabase(config, await lookAtDatabase(config.thisKme.database));
}

function withDatabase(database: Database, members: Partial<Config["thisKme"]> = {}): Config {
  const thisKme = { id: { text: "1", integer: true }, database, keyDirectory: "/nowhere", ...members };
  return { file: "kme.json5", thisKme } as unknown as Config;
}

Deno.test("an SQLite database is inspected without a change", async () => {
  const { temp, database } = await sqlite();
  await using _ = temp;
  const before = await Deno.readFile(database.path);
  const lines = await checkedDatabase(database);
  found(lines, "ok", DATABASE, /has schema 000\d_\w+$/);
  found(lines, "ok", AGE, /does not exist yet; the start creates it/);
  assert.deepEqual(await names(temp.path), ["kme.db"]);
  assert.deepEqual(await Deno.readFile(database.path), before);
});

Deno.test("an SQLite database that this KME has open is ok, and stays locked by it", async () => {
  await using network = await twoKmes();
  const { thisKme: { saesInterface, kmesInterface } } = await configOf(network);
  const { temp, database } = await sqlite();
  await using _ = temp;
  const store = await Store.open({ database, thisKme: { text: "1", integer: true }, neighbours: [] });
  try {
    const config = withDatabase(database, { saesInterface, kmesInterface });
    const stranger = tls.createServer({ ...await serverCertificate() })
      .listen(saesInterface.listen.port, "127.0.0.1");
    await once(stranger, "listening");
    const lines = await checkedConfig(config);
    found(lines, "fail", DATABASE, /in use by another process/);
    assert.equal(exitCode(lines), 1);
    await new Promise((resolve) => stranger.close(resolve));
    const { directory } = network.kme(1);
    const read = (name: string) => Deno.readTextFileSync(`${directory}/saes-server-${name}.pem`);
    const server = tls.createServer({ cert: read("cert"), key: read("key"), requestCert: true })
      .listen(saesInterface.listen.port, "127.0.0.1");
    await once(server, "listening");
    found(await checkedConfig(config), "ok", DATABASE, /in use by a running KME, which is this one/);
    await new Promise((resolve) => server.close(resolve));
    assert.equal(await store.freeBlocks("1"), 0);
    assert.ok(await store.advance() > 0);
  } finally {
    await store.close();
  }
});

Deno.test("a database of a newer version, of another KME, or that is not a database, is a failure", async () => {
  const newer = await sqlite("insert into kysely_migration values ('9999_future', '2099-01-01')");
  await using _newer = newer.temp;
  const lines = await checkedDatabase(newer.database);
  found(lines, "fail", DATABASE, /newer version of this program \(it has 9999_future\)/);
  assert.equal(exitCode(lines), 1);

  const other = await sqlite("", { text: "2", integer: true });
  await using _other = other.temp;
  found(await checkedDatabase(other.database), "fail", DATABASE, /belongs to KME 2, not to KME 1/);

  await Deno.writeTextFile(
    `${other.temp.path}/text`,
    "no database, but long enough to be taken for one\n".repeat(9),
  );
  const text = await checkedDatabase({ kind: "sqlite", path: `${other.temp.path}/text` });
  found(text, "fail", DATABASE, /is not an SQLite database/);
});

Deno.test("a database without this program's migrations is migrated by the start, not by the check", async () => {
  const older = await sqlite("delete from kysely_migration");
  await using _ = older.temp;
  const migrations = () => {
    const file = new Sqlite(older.database.path);
    const rows = file.prepare("select name from kysely_migration").all();
    file.close();
    return rows.length;
  };
  const before = migrations();
  found(
    await checkedDatabase(older.database),
    "ok",
    DATABASE,
    /is empty; the start creates its tables/,
  );
  assert.equal(migrations(), before);
});

Deno.test("a database that is older than its marker is a failure", async () => {
  const { temp, database } = await sqlite("update generation set value = 41");
  await using _ = temp;
  await Deno.writeTextFile(`${database.path}.generation`, "41 2026-01-02T03:04:05.678Z\n");
  found(await checkedDatabase(database), "ok", AGE, /not older than it was at 2026-01-02/);
  await Deno.writeTextFile(`${database.path}.generation`, "42 2026-01-02T03:04:05.678Z\n");
  const lines = await checkedDatabase(database);
  const line = found(lines, "fail", AGE, /its generation is 41, .* says 42/);
  assert.match(line.fix!, /kme burn kme\.json5/);
  assert.equal(exitCode(lines), 1);
  await Deno.writeTextFile(`${database.path}.generation`, "");
  found(await checkedDatabase(database), "fail", AGE, /is damaged/);
});

for (const kind of ["postgres", "mariadb"] as const) {
  const config = (uri: string): Database => ({ kind: kind === "mariadb" ? "mysql" : kind, uri });
  databaseTest(kind, "is looked at, and no password is shown", async (uri, server) => {
    found(await checkedDatabase(config(uri)), "ok", DATABASE, /is empty; the start creates its tables/);
    found(await checkedDatabase(config(uri)), "ok", DATABASE, /is empty/);
    const store = await Store.open({
      database: config(uri),
      thisKme: { text: "1", integer: true },
      neighbours: [],
    });
    found(await checkedDatabase(config(uri)), "ok", DATABASE, /in use by a running KME/);
    await store.close();
    found(await checkedDatabase(config(uri)), "ok", DATABASE, /has schema 000\d_\w+$/);

    const wrong = new URL(uri);
    wrong.password = "wrong-password";
    const refused = await checkedDatabase(config(wrong.href));
    found(refused, "fail", DATABASE, /user name or password refused/);
    assert.doesNotMatch(JSON.stringify(refused), /wrong-password|\bkme:/);
    const missing = new URL(uri);
    missing.pathname = "/no_such_database";
    found(await checkedDatabase(config(missing.href)), "fail", DATABASE, /no such database|may not use/);
    if (!server.controllable) return;
    await server.stop();
    const lines = await checkedDatabase(config(uri));
    found(lines, "fail", DATABASE, /cannot be used: connection refused/);
    assert.equal(exitCode(lines), 1);
  }, { stopsServer: true });
}

Deno.test("a port in use by another program, and an address of another machine, are failures", async () => {
  await using network = await twoKmes();
  const { saesPort, consolePort } = network.kme(1);
  const other = net.createServer((socket) => socket.end("220 not TLS\r\n")).listen(saesPort, "127.0.0.1");
  const page = Deno.serve(
    { port: consolePort, hostname: "127.0.0.1", onListen() {} },
    () => new Response("{}"),
  );
  await once(other, "listening");
  try {
    const lines = await checked(network);
    found(lines, "fail", LISTEN, /is in use by another program/);
    found(lines, "fail", CONSOLE, /is in use by another program/);
    assert.equal(exitCode(lines), 1);
  } finally {
    other.close();
    await page.shutdown();
  }
  await network.writeConfig(1, (config) => {
    config.this_kme.saes_https_interface.listen_address = `203.0.113.7:${saesPort}`;
  });
  found(await checked(network), "fail", LISTEN, /is not an address of this machine/);
});

Deno.test("a running KME of this configuration is recognized by its certificate", async () => {
  await using network = await twoKmes();
  const { directory, saesPort } = network.kme(1);
  const read = (name: string) => Deno.readTextFileSync(`${directory}/saes-server-${name}.pem`);
  const server = tls.createServer({ cert: read("cert"), key: read("key"), requestCert: true })
    .listen(saesPort, "127.0.0.1");
  await once(server, "listening");
  try {
    found(await checked(network), "ok", LISTEN, /is in use by a running KME with this certificate/);
    await putServer(network, "saes", await serverCertificate());
    assert.match(found(await checked(network), "warn", LISTEN, /another certificate/).fix!, /SIGHUP/);
  } finally {
    server.close();
  }
});

Deno.test("a clock that is behind its files, or before the date of this program, is reported", async () => {
  await using network = await twoKmes();
  const config = await configOf(network);
  const now = Date.now();
  found([await checkClock(config, now)], "ok", "clock", /not before the newest file/);
  const late = new Date(now + 3_600_000);
  await network.writeKeyFile(1, 1, 1, { name: "late.cor" });
  await Deno.utime(`${network.keyDirectory(1, 1)}/late.cor`, late, late);
  found([await checkClock(config, now)], "warn", "clock", /late\.cor was written at/);
  found([await checkClock(config, Date.UTC(2001))], "fail", "clock", /before this program was written/);
});

Deno.test("a run as root is a warning", {
  ignore: Deno.build.os === "windows" || Deno.uid() !== 0,
}, async () => {
  await using network = await twoKmes();
  found(await checked(network), "warn", "user", /runs as root/);
});

Deno.test("a low limit of open files is a warning", { ignore: Deno.build.os !== "linux" }, async () => {
  await using network = await twoKmes();
  const main = new URL("../../src/main.ts", import.meta.url).pathname;
  const withLimit = async (limit: number) => {
    const { code, stdout } = await new Deno.Command("sh", {
      args: [
        "-c",
        `ulimit -n ${limit} && exec "$@"`,
        "sh",
        Deno.execPath(),
        "run",
        "-A",
        main,
        "check",
        "--json",
        network.kme(1).configPath,
      ],
      stderr: "inherit",
    }).output();
    assert.equal(code, 0);
    return JSON.parse(new TextDecoder().decode(stdout)).checks as CheckLine[];
  };
  const line = found(
    await withLimit(1024),
    "warn",
    "open files",
    /may open 1024 files, enough for \d+ connections of SAEs and \d+ of other KMEs/,
  );
  assert.match(line.fix!, /LimitNOFILE/);
  found(checkOpenFiles(2, false, 65_536), "ok", "open files", /10000 connections of SAEs and/);
  found(checkOpenFiles(2, true, 65_536), "ok", "open files", /connections of SAEs, \d+ of SKIP clients and/);
});

Deno.test("the directory of the audit log: writable or not", async () => {
  await using network = await twoKmes();
  const config = await configOf(network);
  await using temp = await makeTempDir("kme-check-");
  const auditLog = { directory: temp.path, rotateBytes: 1 << 20 };
  const withLog = { ...config, thisKme: { ...config.thisKme, auditLog } };
  const member = "this_kme.audit_log.directory";
  found(await checkDirectories(withLog), "ok", member, /is writable$/);
  await Deno.remove(temp.path, { recursive: true });
  found(await checkDirectories(withLog), "fail", member, /without a record no key is given out/);
});

Deno.test("answers that are repeated are mentioned, and only then", async () => {
  await using network = await twoKmes("sqlite");
  const what = "this_kme.answer_repeat_seconds";
  assert.ok((await checked(network)).every((line) => line.what !== what));
  const set = (seconds: number, uri?: string) =>
    network.writeConfig(1, ({ this_kme }) => {
      this_kme.answer_repeat_seconds = seconds;
      if (uri !== undefined) this_kme.db_uri = uri;
    });
  await set(10);
  found(await checked(network), "ok", what, /again for 10 s with the same certificate; the bits/);
  await set(10, ":memory:");
  found(await checked(network), "ok", what, /not after a restart/);
});
