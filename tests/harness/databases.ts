/** Real database servers for tests: started from the system's packages, on loopback, with data of their own. */
import mysql from "mysql2/promise";
import pg from "pg";
import { type ChildProcess, findProgram, runChild, startChild } from "./child_process.ts";
import { freePort } from "./free_port.ts";
import { hasProcessTree, signalTree } from "./process_tree.ts";
import { makeTempDir, type TempDir } from "./temp_dir.ts";

/** `mysql` is MySQL itself, not MariaDB. */
export type DatabaseKind = "postgres" | "mariadb" | "mysql";

export interface TestDatabaseServer {
  readonly kind: DatabaseKind;
  readonly port: number;
  /** Where its data and logs are; absent: it is not ours. */
  readonly directory?: string;
  /** Whether it is ours to stop and start. */
  readonly controllable: boolean;
  /**
   * Makes an empty database that belongs to a user without other rights.
   *
   * @param name lower-case letters, digits and underscores; a fresh one by default.
   * @returns the `db_uri` for a KME.
   */
  createDatabase(name?: string): Promise<string>;
  /** Runs statements as the administrator. */
  administer(statements: string[]): Promise<void>;
  /** Removes what {@linkcode createDatabase} made, with all connections to it. */
  dropDatabase(uri: string): Promise<void>;
  /** Stops it in order; the data stay. */
  stop(): Promise<void>;
  /** Kills it as a crash would; the data stay. */
  kill(): Promise<void>;
  /** Stops it in its tracks: connections stay open, nothing is answered until {@linkcode resume}. Linux only. */
  pause(): void;
  resume(): void;
  /** Starts it again on the same port; does nothing when it runs. */
  start(): Promise<void>;
  /** Stops it and removes its data. */
  remove(): Promise<void>;
}

// Holds what must be percent-encoded in a URI and is harmless between the single quotes of SQL.
const PASSWORD = "for@tests/only:100%?#";
const USER = "kme";
const ADMIN = "admin";

/** The server's own settings, in place of those that the harness chose for small tests. */
export type ServerSettings = Readonly<Record<string, string | number>>;

/** PEM of a server's certificate and its key. */
export interface ServerCertificate {
  readonly cert: string;
  readonly key: string;
}

/**
 * Starts a PostgreSQL server of its own; use {@linkcode databaseTest} for one that the tests of a file share.
 *
 * @param certificate lets it offer TLS.
 */
export function startPostgres(
  settings: ServerSettings = {},
  certificate?: ServerCertificate,
): Promise<TestDatabaseServer> {
  return startServer(found("postgres", findPostgres()), settings, certificate);
}

/** Starts a MariaDB server of its own. */
export function startMariadb(
  settings: ServerSettings = {},
  certificate?: ServerCertificate,
): Promise<TestDatabaseServer> {
  return startServer(found("mariadb", findMariadb()), settings, certificate);
}

/** Starts a MySQL server of its own, or uses the one that `KME_TEST_MYSQL_URI` names. */
export function startMysql(): Promise<TestDatabaseServer> {
  const uri = Deno.env.get("KME_TEST_MYSQL_URI");
  return uri ? Promise.resolve(externalMysql(uri)) : startServer(found("mysql", findMysql()));
}

const START = { postgres: startPostgres, mariadb: startMariadb, mysql: startMysql };
const FIND = { postgres: findPostgres, mariadb: findMariadb, mysql: findMysql };

/** Whether tests with this server can run here. */
export function databaseAvailable(
  kind: DatabaseKind,
): { available: true } | { available: false; reason: string } {
  if (kind === "mysql" && Deno.env.get("KME_TEST_MYSQL_URI")) return { available: true };
  const recipe = FIND[kind]();
  return typeof recipe === "string" ? { available: false, reason: recipe } : { available: true };
}

/** Ports of servers that test files share, by kind, as JSON: set by `tests/run.ts`, which starts and stops them. */
export const SHARED_SERVERS = "KME_TEST_SHARED_SERVERS";

export interface DatabaseTestOptions {
  /** The test stops the server, which then belongs to its file; ignored where the server cannot be stopped. */
  stopsServer?: boolean;
  /** The server belongs to the file, although no test stops it. */
  ownServer?: boolean;
}

// Each test file is an isolate of its own, so these are the servers of one file.
const servers = new Map<string, Promise<TestDatabaseServer>>();
let removesServers = false;

/**
 * Registers a test with a fresh database. It is on the server that `tests/run.ts` started for all files; when the file
 * is run by itself, or the test stops the server, on one of the file's own. The server runs when the test begins,
 * whatever the test before did to it. Where it is not installed, the test is ignored and its name says why; with
 * `CI=true` it fails instead, except for MySQL, which no system has beside MariaDB.
 */
export function databaseTest(
  kind: DatabaseKind,
  name: string,
  fn: (uri: string, server: TestDatabaseServer) => void | Promise<void>,
  options: DatabaseTestOptions = {},
): void {
  const fullName = `${kind}: ${name}`;
  const availability = databaseAvailable(kind);
  if (!availability.available) {
    const ignore = kind === "mysql" || Deno.env.get("CI") !== "true";
    Deno.test({
      name: `${fullName} (${availability.reason})`,
      ignore,
      fn: () => {
        throw new Error(availability.reason);
      },
    });
    return;
  }
  if (options.stopsServer && kind === "mysql" && Deno.env.get("KME_TEST_MYSQL_URI")) {
    Deno.test({ name: `${fullName} (the server is not ours to stop)`, ignore: true, fn: () => {} });
    return;
  }
  if (!removesServers) {
    removesServers = true;
    Deno.test.afterAll(async () => {
      const started = await Promise.allSettled(servers.values());
      servers.clear();
      await Promise.all(started.map((server) => server.status === "fulfilled" && server.value.remove()));
    });
  }
  const own = options.stopsServer === true || options.ownServer === true;
  Deno.test({
    name: fullName,
    // The server outlives the test that needed it first.
    sanitizeOps: false,
    sanitizeResources: false,
    fn: async () => {
      const name = own ? `${kind} of this file` : kind;
      if (!servers.has(name)) servers.set(name, (own ? undefined : sharedServer(kind)) ?? START[kind]());
      const server = await servers.get(name)!;
      await server.start();
      await fn(await server.createDatabase(), server);
    },
  });
}

/** The server that `tests/run.ts` started, if it did. */
function sharedServer(kind: DatabaseKind): Promise<TestDatabaseServer> | undefined {
  const port = JSON.parse(Deno.env.get(SHARED_SERVERS) ?? "{}")[kind];
  if (typeof port !== "number") return undefined;
  const refusal = new Error(`other files use this ${kind} server; a test that stops it says stopsServer`);
  const refuse = () => {
    throw refusal;
  };
  return Promise.resolve({
    kind,
    port,
    controllable: false,
    ...databasesOn(found(kind, FIND[kind]()), port),
    start: () => Promise.resolve(),
    stop: () => Promise.reject(refusal),
    kill: () => Promise.reject(refusal),
    pause: refuse,
    resume: refuse,
    // Its data go with it.
    remove: () => Promise.resolve(),
  });
}

function databasesOn(
  recipe: Recipe,
  port: number,
): Pick<TestDatabaseServer, "createDatabase" | "dropDatabase" | "administer"> {
  return {
    createDatabase: async (name = freshName()) => {
      await recipe.createDatabase(port, checkedName(name));
      const password = encodeURIComponent(PASSWORD);
      return `${recipe.scheme}://${USER}:${password}@127.0.0.1:${port}/${name}`;
    },
    administer: (statements) => recipe.administer(port, statements),
    dropDatabase: (uri) => recipe.dropDatabase(port, nameIn(uri)),
  };
}

/** How one kind of server is set up, run and asked. */
interface Recipe {
  readonly kind: DatabaseKind;
  /** User of the system that it runs as; only as root, whom the servers refuse. */
  readonly user?: string;
  /** Makes the data directory in `dir`. */
  initialise(dir: string): Promise<void>;
  /** Program and arguments that serve it. */
  serve(dir: string, port: number, settings: ServerSettings): { program: string; args: string[] };
  readonly ready: RegExp;
  /** What shuts it down at once but in order. */
  readonly stopSignal: Deno.Signal;
  /** The statements that make a database, run by the administrator. */
  createDatabase(port: number, name: string): Promise<void>;
  administer(port: number, statements: string[]): Promise<void>;
  dropDatabase(port: number, name: string): Promise<void>;
  /** Statements for the first start. */
  prepare?(port: number): Promise<void>;
  readonly scheme: "postgres" | "mysql";
}

async function startServer(
  recipe: Recipe,
  ownSettings: ServerSettings = {},
  certificate?: ServerCertificate,
): Promise<TestDatabaseServer> {
  const dir = await makeServerDirectory(recipe.user);
  const settings = { ...ownSettings, ...certificate && await offerTls(recipe, dir.path, certificate) };
  const port = freePort();
  let child: ChildProcess | undefined;

  const start = async () => {
    if (child !== undefined) return;
    const { program, args } = recipe.serve(dir.path, port, settings);
    const starting = startChild(program, { args, cwd: dir.path, user: recipe.user });
    try {
      await starting.waitForLine(recipe.ready, 60_000);
    } catch (error) {
      await starting.end("SIGKILL");
      throw error;
    }
    child = starting;
  };
  // The end of output is awaited too, and the server's own children hold it open: so they are gone as well.
  const end = async (signal: Deno.Signal) => {
    const ending = child;
    child = undefined;
    await ending?.end(signal);
  };

  try {
    await recipe.initialise(dir.path);
    await start();
    await recipe.prepare?.(port);
  } catch (error) {
    await end("SIGKILL");
    await dir.remove();
    throw error;
  }
  return {
    kind: recipe.kind,
    port,
    directory: dir.path,
    controllable: true,
    ...databasesOn(recipe, port),
    start,
    stop: () => end(recipe.stopSignal),
    kill: () => {
      // The processes of its connections would go on for a while.
      if (child !== undefined && hasProcessTree) signalTree(child.pid, "SIGKILL");
      return end("SIGKILL");
    },
    pause: () => child && signalTree(child.pid, "SIGSTOP"),
    resume: () => child && signalTree(child.pid, "SIGCONT"),
    remove: async () => {
      await end(recipe.stopSignal);
      await dir.remove();
    },
  };
}

/** Writes the files of a certificate, and returns the settings that name them. */
async function offerTls(
  { user, scheme }: Recipe,
  dir: string,
  { cert, key }: ServerCertificate,
): Promise<ServerSettings> {
  const [certPath, keyPath] = [`${dir}/server.pem`, `${dir}/server.key`];
  await writeFor(user, certPath, cert);
  await writeFor(user, keyPath, key);
  await Deno.chmod(keyPath, 0o600);
  return scheme === "postgres"
    ? { ssl: "on", ssl_cert_file: certPath, ssl_key_file: keyPath }
    : { "ssl-cert": certPath, "ssl-key": keyPath };
}

async function makeServerDirectory(user: string | undefined): Promise<TempDir> {
  // A path short enough for a unix socket in it, that other users can reach.
  const dir = await makeTempDir("kme-db-", Deno.env.get("KME_TEST_SERVER_DIRECTORY") ?? "/tmp");
  if (user !== undefined) await Deno.chown(dir.path, systemId("-u", user)!, systemId("-g", user)!);
  return dir;
}

async function writeFor(user: string | undefined, path: string, text: string): Promise<void> {
  await Deno.writeTextFile(path, text);
  if (user !== undefined) await Deno.chown(path, systemId("-u", user)!, systemId("-g", user)!);
}

function freshName(): string {
  return `kme_${crypto.randomUUID().replaceAll("-", "").slice(0, 16)}`;
}

function checkedName(name: string): string {
  if (!/^[a-z_][a-z0-9_]*$/.test(name)) throw new Error(`not a plain database name: ${name}`);
  return name;
}

function nameIn(uri: string): string {
  return checkedName(new URL(uri).pathname.slice(1));
}

async function run(program: string, args: string[], dir: string, user: string | undefined): Promise<void> {
  const { code, stdout, stderr } = await runChild(program, { args, cwd: dir, user });
  if (code !== 0) throw new Error(`${program} ended with exit code ${code}:\n${stdout}${stderr}`);
}

function found(kind: DatabaseKind, recipe: Recipe | string): Recipe {
  if (typeof recipe === "string") throw new Error(`cannot start ${kind}: ${recipe}`);
  return recipe;
}

// PostgreSQL

function findPostgres(): Recipe | string {
  const bin = [...postgresDirectories(), ...["initdb", "postgres"].map(directoryOf)]
    .find((directory) => directory && findIn(directory, "initdb") && findIn(directory, "postgres"));
  if (bin === undefined) return "PostgreSQL is not installed";
  const user = serverUser("postgres");
  if (user === null) return "PostgreSQL does not run as root, and there is no user postgres";
  return {
    kind: "postgres",
    user,
    scheme: "postgres",
    ready: /database system is ready to accept connections/,
    stopSignal: "SIGINT",
    initialise: async (dir) => {
      const passwordFile = `${dir}/password`;
      await writeFor(user, passwordFile, PASSWORD);
      const args = ["-D", `${dir}/data`, "-U", ADMIN, `--pwfile=${passwordFile}`, "-E", "UTF8", "--locale=C"];
      args.push("--auth-local=reject", "--auth-host=scram-sha-256", "--no-sync", "--no-instructions");
      await run(`${bin}/initdb`, args, dir, user);
    },
    serve: (dir, port, own) => {
      const settings = {
        listen_addresses: "127.0.0.1",
        port,
        unix_socket_directories: dir,
        shared_buffers: "16MB",
        max_wal_size: "64MB",
        max_connections: 100,
        fsync: "on",
        synchronous_commit: "on",
        ...own,
      };
      const args = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
      return { program: `${bin}/postgres`, args: ["-D", `${dir}/data`, ...args] };
    },
    prepare: (port) => withPostgres(port, [`CREATE ROLE ${USER} LOGIN PASSWORD '${PASSWORD}'`]),
    createDatabase: (port, name) => withPostgres(port, [`CREATE DATABASE ${name} OWNER ${USER}`]),
    administer: withPostgres,
    dropDatabase: (port, name) => withPostgres(port, [`DROP DATABASE ${name} WITH (FORCE)`]),
  };
}

/** Debian's directories, newest version first. */
function postgresDirectories(): string[] {
  try {
    return [...Deno.readDirSync("/usr/lib/postgresql")].map((entry) => entry.name)
      .sort((a, b) => Number(b) - Number(a))
      .map((version) => `/usr/lib/postgresql/${version}/bin`);
  } catch {
    return [];
  }
}

/** Runs one statement on a connection of its own, as a KME would with its `db_uri`, and returns the rows. */
export async function queryDatabase(uri: string, statement: string): Promise<unknown[]> {
  if (uri.startsWith("postgres:")) {
    const client = new pg.Client(uri);
    await client.connect();
    try {
      return (await client.query(statement)).rows;
    } finally {
      await client.end();
    }
  }
  const connection = await mysql.createConnection(uri);
  try {
    const [rows] = await connection.query(statement);
    return Array.isArray(rows) ? rows : [];
  } finally {
    await connection.end();
  }
}

async function withPostgres(port: number, statements: string[]): Promise<void> {
  const login = { host: "127.0.0.1", port, user: ADMIN, password: PASSWORD, database: "postgres" };
  const client = new pg.Client(login);
  await client.connect();
  try {
    for (const statement of statements) await client.query(statement);
  } finally {
    await client.end();
  }
}

// MariaDB and MySQL

const MYSQL_DIRECTORIES = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/mysql/bin"];

function findMariadb(): Recipe | string {
  const install = findProgram("mariadb-install-db", MYSQL_DIRECTORIES);
  const server = ["mariadbd", "mysqld"].map((name) => findProgram(name, MYSQL_DIRECTORIES))
    .find((path) => path !== undefined && isMariadb(path));
  if (install === undefined || server === undefined) return "MariaDB is not installed";
  return mysqlRecipe("mariadb", "MariaDB", server, (dir, user) => {
    const args = ["--no-defaults", `--datadir=${dir}/data`, "--auth-root-authentication-method=normal"];
    args.push("--skip-test-db", "--skip-name-resolve", "--innodb-log-file-size=16M");
    return run(install, args, dir, user);
  });
}

function findMysql(): Recipe | string {
  const server = findProgram("mysqld", MYSQL_DIRECTORIES);
  if (server === undefined || isMariadb(server)) return "MySQL is not installed";
  return mysqlRecipe("mysql", "MySQL", server, (dir, user) => {
    const args = ["--no-defaults", "--initialize-insecure", `--datadir=${dir}/data`];
    return run(server, args, dir, user);
  });
}

function mysqlRecipe(
  kind: "mariadb" | "mysql",
  title: string,
  server: string,
  initialise: (dir: string, user: string | undefined) => Promise<void>,
): Recipe | string {
  const user = serverUser("mysql");
  if (user === null) return `${title} does not run as root, and there is no user mysql`;
  return {
    kind,
    user,
    scheme: "mysql",
    ready: /ready for connections/,
    stopSignal: "SIGTERM",
    initialise: async (dir) => {
      const users = [
        `CREATE USER IF NOT EXISTS '${ADMIN}'@'127.0.0.1' IDENTIFIED BY '${PASSWORD}';`,
        `GRANT ALL PRIVILEGES ON *.* TO '${ADMIN}'@'127.0.0.1' WITH GRANT OPTION;`,
        `CREATE USER IF NOT EXISTS '${USER}'@'127.0.0.1' IDENTIFIED BY '${PASSWORD}';`,
      ];
      await writeFor(user, `${dir}/users.sql`, users.join("\n") + "\n");
      await initialise(dir, user);
    },
    serve: (dir, port, own) => {
      const settings: Record<string, string | number> = {
        "datadir": `${dir}/data`,
        "bind-address": "127.0.0.1",
        port,
        "socket": `${dir}/socket`,
        "pid-file": `${dir}/pid`,
        // A server that starts removes the temporary files of others that use the same directory.
        "tmpdir": dir,
        "init-file": `${dir}/users.sql`,
        "innodb-buffer-pool-size": "16M",
        "innodb-flush-log-at-trx-commit": 1,
        "performance-schema": "OFF",
        "skip-name-resolve": "ON",
        "skip-log-bin": "ON",
        ...kind === "mysql" ? { mysqlx: 0 } : { "innodb-log-file-size": "16M" },
        ...own,
      };
      const args = Object.entries(settings).map(([name, value]) => `--${name}=${value}`);
      return { program: server, args: ["--no-defaults", ...args] };
    },
    createDatabase: (port, name) =>
      withMysql({ host: "127.0.0.1", port, user: ADMIN, password: PASSWORD }, [
        `CREATE DATABASE ${name}`,
        `GRANT ALL PRIVILEGES ON ${name}.* TO '${USER}'@'127.0.0.1'`,
      ]),
    administer: (port, statements) =>
      withMysql({ host: "127.0.0.1", port, user: ADMIN, password: PASSWORD }, statements),
    dropDatabase: (port, name) =>
      withMysql({ host: "127.0.0.1", port, user: ADMIN, password: PASSWORD }, [`DROP DATABASE ${name}`]),
  };
}

/** A server that someone else runs; its user must be allowed to make databases. */
function externalMysql(uri: string): TestDatabaseServer {
  const url = new URL(uri);
  const port = Number(url.port || 3306);
  const login = {
    host: url.hostname,
    port,
    user: decodeURIComponent(url.username),
    password: decodeURIComponent(url.password),
  };
  const made: string[] = [];
  const complaint = new Error("the server of KME_TEST_MYSQL_URI is not ours to stop");
  const notOurs = () => Promise.reject(complaint);
  const pause = () => {
    throw complaint;
  };
  return {
    kind: "mysql",
    port,
    controllable: false,
    createDatabase: async (name = freshName()) => {
      await withMysql(login, [`CREATE DATABASE ${checkedName(name)}`]);
      made.push(name);
      const own = new URL(uri);
      own.pathname = `/${name}`;
      return own.href;
    },
    administer: (statements) => withMysql(login, statements),
    dropDatabase: async (uri) => {
      const name = nameIn(uri);
      await withMysql(login, [`DROP DATABASE ${name}`]);
      made.splice(made.indexOf(name), 1);
    },
    start: () => Promise.resolve(),
    stop: notOurs,
    kill: notOurs,
    pause,
    resume: pause,
    remove: () => withMysql(login, made.splice(0).map((name) => `DROP DATABASE IF EXISTS ${name}`)),
  };
}

async function withMysql(login: mysql.ConnectionOptions, statements: string[]): Promise<void> {
  const connection = await mysql.createConnection(login);
  try {
    for (const statement of statements) await connection.query(statement);
  } finally {
    await connection.end();
  }
}

// The system

function isMariadb(server: string): boolean {
  const { stdout } = new Deno.Command(server, { args: ["--version"], stderr: "null" }).outputSync();
  return /mariadb/i.test(new TextDecoder().decode(stdout));
}

/** The user to run a server as: `undefined` for our own, `null` when there is none that would do. */
function serverUser(name: string): string | undefined | null {
  if (Deno.build.os === "windows" || Deno.uid() !== 0) return undefined;
  return systemId("-u", name) === undefined ? null : name;
}

function systemId(flag: "-u" | "-g", user: string): number | undefined {
  const { success, stdout } = new Deno.Command("id", { args: [flag, user], stderr: "null" }).outputSync();
  return success ? Number(new TextDecoder().decode(stdout)) : undefined;
}

function findIn(directory: string, name: string): boolean {
  return findProgram(name, [directory]) === `${directory}/${name}`;
}

function directoryOf(name: string): string | undefined {
  const path = findProgram(name);
  return path === undefined ? undefined : Deno.realPathSync(path).replace(/\/[^/]*$/, "");
}
