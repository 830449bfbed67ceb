/** No bits in the clear leave the program with encryption: not to files of the database, nor its logs, dumps and connections. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import net from "node:net";
import type { Database, DatabaseServer, StoreEncryption } from "../../src/config/config.ts";
import { Store } from "../../src/store/store.ts";
import { findProgram, runChild } from "../harness/child_process.ts";
import { startMariadb, startPostgres, type TestDatabaseServer } from "../harness/databases.ts";
import { databaseAvailable } from "../harness/databases.ts";
import { makeTempDir } from "../harness/temp_dir.ts";
import { delivery, fill, freshId, makeTestKey, OWN, PEER } from "./store_fixture.ts";

/** Stores blocks and keys of all kinds; returns parts of bits that are in the database in some form. */
async function useStore(database: Database, encryption: StoreEncryption | undefined): Promise<Buffer[]> {
  const store = await Store.open({ database, encryption, thisKme: OWN, neighbours: [PEER] });
  const own = await fill(store, 600);
  const shared = await fill(store, 300, PEER.text);
  const keys = [
    ...(await store.deliver(delivery(store, 50)))!,
    ...(await store.deliver({ ...delivery(store, 20), size: 1024 }))!,
  ];
  await store.reserve({
    reservation: freshId(),
    claims: [{ link: store.link(PEER.text)!, blocks: 20, pad: true }],
  });
  for (const { id } of shared.slice(100, 150)) {
    await store.activate({
      link: store.link(PEER.text)!,
      origin: PEER.text,
      keys: [{ id: freshId(), size: 128, blocks: [id] }],
      master: "21",
      slaves: ["11"],
      expiresAt: Date.now() + 3_600_000,
      transaction: freshId(),
    });
  }
  assert.equal(
    (await store.collect({ caller: "12", master: "11", ids: keys.slice(0, 10).map(({ id }) => id) })).kind,
    "keys",
  );
  await store.close();
  // Some of each kind: searching for all of them takes minutes.
  return [...own, ...shared].filter((_, i) => i % 37 === 0).map(({ bits }) =>
    Buffer.from(bits).subarray(0, 16)
  );
}

/** How many of the bits are in the content, as bytes or as hexadecimal digits. */
function found(content: Buffer, bits: readonly Buffer[]): number {
  const text = content.toString("latin1");
  const has = (part: string) => text.includes(part);
  return bits.filter((part) =>
    has(part.toString("latin1")) || has(part.toString("hex")) || has(part.toString("hex").toUpperCase())
  ).length;
}

/** Files below a directory with bits in them. */
async function filesWith(directory: string, bits: readonly Buffer[]): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for await (const { name, isDirectory, isFile } of Deno.readDir(directory)) {
    const path = `${directory}/${name}`;
    if (isDirectory) Object.assign(counts, await filesWith(path, bits));
    if (!isFile) continue;
    const count = found(Buffer.from(await Deno.readFile(path)), bits);
    if (count > 0) counts[path] = count;
  }
  return counts;
}

/** A server on loopback that forwards to another one and keeps what it sees. */
async function startTap(target: number) {
  const seen: Buffer[] = [];
  const server = net.createServer((client) => {
    const upstream = net.connect(target, "127.0.0.1");
    const keep = (from: net.Socket, to: net.Socket) => {
      from.on("data", (data) => {
        seen.push(Buffer.from(data));
        to.write(data);
      });
      from.on("end", () => to.end());
      from.on("error", () => to.destroy());
      from.on("close", () => to.destroy());
    };
    keep(client, upstream);
    keep(upstream, client);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as net.AddressInfo).port,
    content: () => Buffer.concat(seen),
    close: () => new Promise<void>((resolve) => server.close(() => resolve())),
  };
}

Deno.test("sqlite: known bits are in no file of an encrypted database, and in those of another one", async () => {
  await using dir = await makeTempDir("kme-encrypted-");
  const encryption = await makeTestKey(dir.path);
  const at = (name: string): Database => ({ kind: "sqlite", path: `${dir.path}/${name}.db` });
  assert.deepEqual(await filesWith(dir.path, await useStore(at("encrypted"), encryption)), {});
  // Otherwise the search proves nothing.
  assert.notDeepEqual(await filesWith(dir.path, await useStore(at("clear"), undefined)), {});
});

interface Recipe {
  readonly kind: "postgres" | "mariadb";
  start(): Promise<TestDatabaseServer>;
  /** Program and arguments that write everything in the database to standard output. */
  dump(uri: URL): { program: string; args: string[]; env: Record<string, string> };
}

const RECIPES: readonly Recipe[] = [
  {
    kind: "postgres",
    start: () => startPostgres({ wal_level: "logical", full_page_writes: "on" }),
    dump: (uri) => ({
      program: "pg_dump",
      args: ["-h", "127.0.0.1", "-p", uri.port, "-U", uri.username, uri.pathname.slice(1)],
      env: { PGPASSWORD: decodeURIComponent(uri.password) },
    }),
  },
  {
    kind: "mariadb",
    start: () => startMariadb({ "log-bin": "binlog", "binlog-format": "ROW", "general-log": 1 }),
    dump: (uri) => ({
      program: "mariadb-dump",
      args: [
        "--no-defaults",
        "--skip-ssl",
        "--hex-blob",
        "-h",
        "127.0.0.1",
        "-P",
        uri.port,
        "-u",
        uri.username,
        uri.pathname.slice(1),
      ],
      env: { MYSQL_PWD: decodeURIComponent(uri.password) },
    }),
  },
];

for (const { kind, start, dump } of RECIPES) {
  const available = databaseAvailable(kind);
  Deno.test({
    name:
      `${kind}: known bits are not in the data directory, logs, dump and connection of an encrypted database`,
    ignore: !available.available,
    sanitizeOps: false,
    sanitizeResources: false,
    fn: async () => {
      await using dir = await makeTempDir("kme-encrypted-");
      const server = await start();
      try {
        const encryption = await makeTestKey(dir.path);
        const use = async (encryption: StoreEncryption | undefined) => {
          const tap = await startTap(server.port);
          const direct = await server.createDatabase();
          const uri = new URL(direct);
          uri.port = String(tap.port);
          const database: DatabaseServer = {
            kind: kind === "postgres" ? "postgres" : "mysql",
            uri: uri.href,
          };
          const bits = await useStore(database, encryption);
          await tap.close();
          const { program, args, env } = dump(new URL(direct));
          const path = findProgram(program);
          assert.ok(path !== undefined, `${program} is not installed`);
          const { code, stdout, stderr } = await runChild(path, { args, cwd: dir.path, env });
          assert.equal(code, 0, stderr);
          return { bits, wire: found(tap.content(), bits), dump: found(Buffer.from(stdout), bits) };
        };
        const encrypted = await use(encryption);
        const clear = await use(undefined);
        // Everything is in its files after that.
        await server.stop();
        assert.deepEqual([encrypted.wire, encrypted.dump], [0, 0]);
        assert.deepEqual(await filesWith(server.directory!, encrypted.bits), {});
        // Otherwise the search proves nothing.
        assert.ok(clear.wire > 0 && clear.dump > 0, `${clear.wire} ${clear.dump}`);
        const files = Object.keys(await filesWith(server.directory!, clear.bits)).join("\n");
        assert.match(files, kind === "postgres" ? /pg_wal/ : /binlog/);
        assert.match(files, kind === "postgres" ? /\/base\// : /blocks\.ibd/);
        if (kind === "mariadb") assert.match(files, /ib_logfile0/);
      } finally {
        await server.remove();
      }
    },
  });
}
