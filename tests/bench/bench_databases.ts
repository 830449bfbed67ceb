/** What the databases cost: every answer durable, against the same KME in memory. */
import { databaseAvailable, startMariadb, startPostgres } from "../harness/databases.ts";
import { POOL, TIMES } from "./options.ts";
import type { Row } from "./row.ts";
import { compare, interleave, type Target } from "./comparison.ts";
import { type Database, type Request, Site } from "./site.ts";

const ENC = { way: "enc", slave: "local" } as const;
const PAIRS = { way: "enc+dec", slave: "local" } as const;

/** The servers' own defaults, in place of what the harness chose for small tests. */
const SERVERS = [
  ["PostgreSQL", "postgres", () => startPostgres({ shared_buffers: "128MB", max_wal_size: "1GB" })],
  [
    "MariaDB",
    "mariadb",
    () => startMariadb({ "innodb-buffer-pool-size": "128M", "innodb-log-file-size": "96M" }),
  ],
] as const;

export async function databases(): Promise<Row[]> {
  await using stack = new AsyncDisposableStack();
  const targets: Target[] = [];
  const add = async (database: [Database, Database], requests: Record<string, Request>) => {
    const site = stack.use(await Site.make(database));
    for (const [name, request] of Object.entries(requests)) {
      targets.push({
        name,
        run: () => site.runAfresh(request, TIMES, POOL),
      });
    }
  };
  await add([":memory:", ":memory:"], { "memory": ENC, "memory, then dec_keys": PAIRS });
  await add(["sqlite", "sqlite"], {
    "SQLite file": ENC,
    "SQLite file, then dec_keys": PAIRS,
    "SQLite files, two KMEs": { way: "enc", slave: "remote" },
  });
  for (const [name, kind, start] of SERVERS) {
    const available = databaseAvailable(kind);
    if (!available.available) {
      console.error(`${name} is left out: ${available.reason}`);
      continue;
    }
    const server = await start();
    stack.defer(() => server.remove());
    await add([server, ":memory:"], { [name]: ENC });
  }

  const results = await interleave(targets);
  const row = compare(results);
  const rows = [
    row("enc_keys, one KME, SQLite file, against :memory:", "requests/s", "SQLite file", "memory", {
      atLeast: 0.85,
    }),
    row(
      "enc_keys then dec_keys, one KME, SQLite file, against :memory:",
      "pairs/s",
      "SQLite file, then dec_keys",
      "memory, then dec_keys",
    ),
    row(
      "enc_keys over two KMEs, SQLite files, against one KME on a file",
      "requests/s",
      "SQLite files, two KMEs",
      "SQLite file",
      { atLeast: 0.4 },
    ),
  ];
  if (results.has("PostgreSQL")) {
    rows.push(
      row("enc_keys, one KME, PostgreSQL, against :memory:", "requests/s", "PostgreSQL", "memory", {
        atLeast: 0.4,
      }),
    );
  }
  if (results.has("MariaDB")) {
    rows.push(
      row("enc_keys, one KME, MariaDB, against :memory:", "requests/s", "MariaDB", "memory", {
        atLeast: 0.4,
      }),
    );
  }
  return rows;
}
