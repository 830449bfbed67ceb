/** The commands of `compose.yaml` and `Containerfile`, run without a container engine: paths and hosts are replaced by ones here. */
import assert from "node:assert/strict";
import { parse } from "yaml";
import { databaseAvailable, databaseTest, startMariadb } from "../harness/databases.ts";
import { eventually } from "../harness/eventually.ts";
import { freePorts } from "../harness/free_port.ts";
import { PROJECT_ROOT, runKme, startKme } from "../harness/kme_process.ts";
import { keyIdsOf, SaeClient } from "../harness/sae_client.ts";
import { makeTempDir } from "../harness/temp_dir.ts";

interface Service {
  readonly image: string;
  readonly build?: unknown;
  readonly restart?: string;
  readonly command?: readonly string[];
  readonly entrypoint?: readonly string[];
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>;
  readonly healthcheck?: { readonly test?: readonly string[]; readonly disable?: boolean };
  readonly ports?: readonly string[];
  readonly volumes?: readonly string[];
}

interface Compose {
  readonly services: Readonly<Record<string, Service>>;
  readonly volumes: Readonly<Record<string, null>>;
}

async function readCompose(): Promise<Compose> {
  return parse(await Deno.readTextFile(`${PROJECT_ROOT}compose.yaml`), { merge: true });
}

/** Services in an order in which each comes after those that it depends on. */
function ordered(services: Compose["services"]): string[] {
  const order: string[] = [];
  const add = (name: string, path: readonly string[]) => {
    assert.ok(!path.includes(name), `services wait for each other: ${[...path, name].join(", ")}`);
    assert.ok(services[name] !== undefined, `there is no service ${name}`);
    for (const other of Object.keys(services[name].depends_on ?? {})) add(other, [...path, name]);
    if (!order.includes(name)) order.push(name);
  };
  for (const name of Object.keys(services)) add(name, []);
  return order;
}

Deno.test("compose.yaml uses only what it defines, and nothing outside of this host can reach it", async () => {
  const { services, volumes } = await readCompose();
  ordered(services);
  for (const [name, service] of Object.entries(services)) {
    for (const volume of service.volumes ?? []) {
      const [source] = volume.split(":");
      if (source!.startsWith("./")) await Deno.stat(PROJECT_ROOT + source);
      else assert.ok(source! in volumes, `${name}: ${volume}`);
    }
    for (const port of service.ports ?? []) assert.match(port, /^127\.0\.0\.1:\d+:\d+$/, name);
  }
});

Deno.test("compose.yaml builds one image for all services, waits for databases that are set up, and starts a KME again", async () => {
  const { services } = await readCompose();
  const own = Object.values(services).filter(({ image }) => image === "kme");
  assert.deepEqual(own.filter(({ build }) => build !== undefined).map(({ build }) => build), [{
    context: ".",
    dockerfile: "Containerfile",
    args: { BINARY: "${KME_BINARY:-kme}" },
  }]);
  for (const { build, image } of Object.values(services)) assert.ok(build === undefined || image === "kme");
  // While its image sets PostgreSQL up, the server listens on a socket of the file system only.
  assert.deepEqual(services.postgres!.healthcheck!.test!.slice(0, 4), [
    "CMD",
    "pg_isready",
    "--host",
    "127.0.0.1",
  ]);
  for (const name of ["kme1", "kme2"]) assert.equal(services[name]!.restart, "on-failure");
});

Deno.test("the image runs the program as a user without rights, and asks it for its health", async () => {
  const text = await Deno.readTextFile(`${PROJECT_ROOT}Containerfile`);
  const commands = (instruction: string) =>
    [...text.matchAll(new RegExp(`^(?:HEALTHCHECK .*)?\\b${instruction} (\\[.*\\])$`, "gm"))]
      .map(([, json]) => JSON.parse(json!));
  assert.deepEqual(commands("ENTRYPOINT"), [["kme"]]);
  assert.deepEqual(commands("CMD"), [["kme", "health", "/etc/kme/kme.json5"], [
    "start",
    "/etc/kme/kme.json5",
  ]]);
  assert.match(text, /^USER 10001:10001$/m);
});

if (databaseAvailable("mariadb").available || Deno.env.get("CI") === "true") {
  databaseTest("postgres", "the commands of compose.yaml lead to two KMEs with a key", async (postgres) => {
    await using dir = await makeTempDir();
    const mariadb = await startMariadb();
    await using _server = { [Symbol.asyncDispose]: () => mariadb.remove() };
    const databases = { kme1: postgres, kme2: await mariadb.createDatabase() };
    const { services } = await readCompose();
    const replaced = new Map([["/certs", `${dir.path}/certs`], ["/keys", `${dir.path}/keys`], [
      "/etc/kme",
      `${dir.path}/etc`,
    ]]);
    const here = (text: string) => text.replace(/^\/(?:certs|keys|etc\/kme)/, (path) => replaced.get(path)!);

    // As the volumes are at the first start.
    for (const path of replaced.values()) await Deno.mkdir(path);
    const ports = { kme1: freePorts(3), kme2: freePorts(3) };
    const other = { kme1: "kme2", kme2: "kme1" } as const;
    for (const kme of ["kme1", "kme2"] as const) {
      let text = await Deno.readTextFile(`${PROJECT_ROOT}containers/${kme}.json5`);
      for (
        const [from, to] of [
          [/"(\/(?:certs|keys)[^"]*)"/g, (_: string, path: string) => JSON.stringify(here(path))],
          [/"0\.0\.0\.0:13000"/, () => `"127.0.0.1:${ports[kme][0]}"`],
          [/"0\.0\.0\.0:13001"/, () => `"127.0.0.1:${ports[kme][1]}"`],
          [/"127\.0\.0\.1:18080"/, () => `"127.0.0.1:${ports[kme][2]}"`],
          [/"kme\d:13001"/, () => `"127.0.0.1:${ports[other[kme]][1]}"`],
          [/db_uri: "[^"]*"/, () => `db_uri: ${JSON.stringify(databases[kme])}`],
        ] as [RegExp, (...match: string[]) => string][]
      ) {
        assert.match(text, from);
        text = text.replace(from, to);
      }
      await Deno.writeTextFile(`${dir.path}/etc/${kme}.json5`, text);
    }
    const network = await Deno.readTextFile(`${PROJECT_ROOT}containers/network.json5`);
    await Deno.writeTextFile(
      `${dir.path}/etc/network.json5`,
      network.replaceAll(/hosts: \["(kme\d)"\]/g, 'hosts: ["$1", "127.0.0.1"]'),
    );

    await using running = new AsyncDisposableStack();
    const health: string[][] = [];
    for (const name of ordered(services)) {
      const { image, command = [], entrypoint, healthcheck } = services[name]!;
      if (image !== "kme" || entrypoint !== undefined) continue;
      const args = command.map(here);
      if (args[0] === "start") {
        running.use(await startKme(args[1]!));
        health.push(healthcheck!.test!.slice(2).map(here));
        continue;
      }
      const { code, stderr } = await runKme(args);
      assert.equal(code, 0, `${name}: ${stderr}`);
    }
    assert.equal(health.length, 2);
    for (const args of health) assert.equal((await runKme(args)).code, 0);

    const client = async (kme: "kme1" | "kme2", sae: number) => {
      const zone = `${dir.path}/certs/kme-${kme.at(-1)}-local-zone`;
      const [cert, key, ca] = await Promise.all(
        [`client_${sae}.crt`, `client_${sae}.key`, "ca.crt"].map((name) =>
          Deno.readTextFile(`${zone}/${name}`)
        ),
      );
      return new SaeClient({ port: ports[kme][0]!, cert, key, ca: ca! });
    };
    using master = await client("kme1", 1);
    using slave = await client("kme2", 3);
    // Both ends have all files.
    for (const [asking, sae] of [[master, 3], [slave, 1]] as const) {
      await eventually(async () => (await asking.status(sae)).json.stored_key_count === 1000, {
        timeout: 30_000,
      });
    }
    const ids = keyIdsOf(await master.encKeys(3));
    assert.equal((await slave.decKeys(1, ids)).status, 200);
  });
}
