/** A KME that may open few files. Each KME runs in a process of its own with that limit. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { Agent, get, type IncomingMessage } from "node:http";
import { connect, type Socket } from "node:net";
import { fileURLToPath } from "node:url";
import { eventually } from "../harness/eventually.ts";
import type { KmeProcess } from "../harness/kme_process.ts";
import { SaeClient } from "../harness/sae_client.ts";
import { leaveFiles } from "../harness/process_files.ts";
import { scrape } from "../metrics/scrape.ts";
import { makeTestNetwork, type TestNetwork } from "../harness/test_network.ts";
import { connectionLimits } from "../../src/tls/connection_limits.ts";

const posixOnly = { ignore: Deno.build.os === "windows" };
const FILES = 300;

/** Milliseconds for a request to a KME that may have no file for it. */
const TRY_MS = 1000;

/** Two SAEs at one KME with a console. */
async function withFewFiles(test: (network: TestNetwork, kme: KmeProcess) => Promise<void>) {
  await using network = await makeTestNetwork({ kmes: [{ id: 1, saes: [1, 2], console: true }] });
  const script = `${network.directory}/kme.sh`;
  const project = fileURLToPath(new URL("../..", import.meta.url));
  await Deno.writeTextFile(
    script,
    `#!/bin/sh\nulimit -n ${FILES}\n` +
      `exec '${Deno.execPath()}' run -A --config '${project}deno.json' '${project}src/main.ts' "$@"\n`,
    { mode: 0o700 },
  );
  await using kme = await network.start(1, { program: { executable: script } });
  await test(network, kme);
}

/** Opens idle TCP connections, some of which may be refused. */
async function openMany(port: number, count: number): Promise<Socket[]> {
  return await Promise.all(Array.from({ length: count }, () => {
    const socket = connect({ port, host: "127.0.0.1" });
    socket.on("error", () => {});
    return new Promise<Socket>((resolve) => {
      socket.once("connect", () => resolve(socket));
      socket.once("close", () => resolve(socket));
    });
  }));
}

async function answersAgain(network: TestNetwork, kme: KmeProcess) {
  using client = network.client(1, { agent: false });
  await eventually(async () => (await client.status(2)).status === 200, {
    what: "the SAE interface answers",
    timeout: 20_000,
  });
  const origin = `http://127.0.0.1:${network.kme(1).consolePort}`;
  await eventually(async () => {
    const response = await fetch(`${origin}/health/live`, { headers: { connection: "close" } });
    await response.body?.cancel();
    return response.ok;
  }, { what: "the console answers", timeout: 20_000 });
  let ended = false;
  kme.exited.then(() => ended = true);
  await Promise.resolve();
  assert.equal(ended, false);
}

Deno.test(
  "more idle connections than files at any listener: the KME goes on when they are gone",
  posixOnly,
  () =>
    withFewFiles(async (network, kme) => {
      const { consolePort, saesPort, kmesPort } = network.kme(1);
      for (const port of [consolePort, saesPort, kmesPort]) {
        const sockets = await openMany(port, FILES + 50);
        // Long enough for the listener to fail.
        await new Promise((resolve) => setTimeout(resolve, 500));
        for (const socket of sockets) socket.destroy();
        await answersAgain(network, kme);
      }
    }),
);

Deno.test(
  "idle connections at the console take no files from others, and none from other addresses",
  { ignore: Deno.build.os !== "linux" },
  () =>
    withFewFiles(async (network, kme) => {
      const { consolePort } = network.kme(1);
      const elsewhere = new Agent({ keepAlive: true, maxSockets: 1, localAddress: "127.0.0.2" });
      const lives = async (agent: Agent | false) => {
        const options = { port: consolePort, path: "/health/live", agent };
        const request = get({ host: "127.0.0.1", ...options });
        const [response] = await once(request, "response") as [IncomingMessage];
        await response.resume().toArray();
        assert.equal(response.statusCode, 200);
        return request.reusedSocket;
      };
      assert.equal(await lives(elsewhere), false);
      const sockets = await openMany(consolePort, FILES + 50);
      try {
        assert.equal(await lives(elsewhere), true, "the connection of another address was closed");
        assert.equal(await lives(false), false);
        using client = network.client(1, { agent: false });
        for (let i = 0; i < 5; i++) assert.equal((await client.status(2)).status, 200);
        const metrics = await fetch(`http://127.0.0.1:${consolePort}/metrics`);
        const files = scrape(await metrics.text()).value("process_open_fds")!;
        assert.ok(files < FILES / 2, `${files} open files`);
        assert.deepEqual(kme.lines.filter((line) => line.includes("too many open files")), []);
      } finally {
        for (const socket of sockets) socket.destroy();
        elsewhere.destroy();
      }
    }),
);

Deno.test(
  "a KME that has no file left goes on at every listener when there are files again",
  { ignore: Deno.build.os !== "linux" },
  async () => {
    await using network = await makeTestNetwork({
      kmes: [{ id: 1, saes: [1, 2], console: true, skip: true, database: "sqlite" }, { id: 2, saes: [3] }],
    });
    await using kme = await network.start(1);
    const { consolePort, skipPort, kmesPort } = network.kme(1);
    const { cert, key } = network.kme(2).interKmeClient;
    const { ca } = network.interKmeCa;
    const asked: [string, () => Promise<number>][] = [
      ["console", async () => {
        const response = await fetch(`http://127.0.0.1:${consolePort}/health/live`, {
          headers: { connection: "close" },
          signal: AbortSignal.timeout(TRY_MS),
        });
        await response.body?.cancel();
        return response.status;
      }],
      ["SAE", async () => {
        using client = network.client(1, { agent: false, timeout: TRY_MS });
        return (await client.status(2)).status;
      }],
      ["SKIP", async () => {
        using client = network.client(1, { agent: false, timeout: TRY_MS, port: skipPort });
        return (await client.raw({ path: "/capabilities" })).status;
      }],
      ["inter-KME", async () => {
        using client = new SaeClient({ agent: false, timeout: TRY_MS, port: kmesPort, ca, cert, key });
        const body = '{"sender_KME_ID":"2"}';
        return (await client.raw({ method: "POST", path: "/kme/v1/hello", body })).status;
      }],
    ];
    let ended = false;
    kme.exited.then(() => ended = true);
    let failed = 0;
    // With none no listener can accept; with one or two the inner HTTP server cannot.
    for (const spare of [0, 1, 2, 3]) {
      const giveBack = await leaveFiles(kme.pid, spare);
      await network.writeKeyFile(1, 1, 5);
      const statuses = await Promise.all(asked.map(([, ask]) => ask().catch(() => 0)));
      failed += statuses.filter((status) => status !== 200).length;
      await giveBack();
      for (const [name, ask] of asked) {
        await eventually(async () => await ask() === 200, {
          what: `with ${spare} files before, the ${name} interface answers`,
          timeout: 30_000,
        });
      }
      assert.equal(ended, false, kme.lines.join("\n"));
    }
    assert.ok(failed > 8, `only ${failed} requests found no file`);
    using client = network.client(1);
    await eventually(async () => (await client.status(2)).json.stored_key_count === 20, {
      what: "key files that came meanwhile are ingested",
      timeout: 30_000,
    });
    assert.match(kme.lines.join("\n"), /inner .* listener: .*it is opened again/);
    assert.match(
      kme.lines.join("\n"),
      /no connection is accepted on .* any more; the listener is opened again/,
    );
    assert.equal(await kme.stop(), 0);
  },
);

Deno.test(
  "an SAE that opens many connections keeps no other SAE from its keys",
  posixOnly,
  () =>
    withFewFiles(async (network, kme) => {
      const clients: SaeClient[] = [];
      try {
        for (let i = 0; i < 150; i++) {
          const client = network.client(1);
          clients.push(client);
          await client.status(2).catch(() => {});
        }
        using other = network.client(2, { agent: false });
        for (let i = 0; i < 5; i++) assert.equal((await other.status(1)).status, 200);
      } finally {
        for (const client of clients) client[Symbol.dispose]();
      }
      await answersAgain(network, kme);
    }),
);

Deno.test("the limits of all listeners fit into the files of the process", () => {
  for (const files of [256, 1024, 4096, 65_536, 1_048_576]) {
    for (const hasSkip of [false, true]) {
      const { sae, kme, skip, console } = connectionLimits(files, 2, hasSkip);
      const listeners = hasSkip ? [sae, kme, skip] : [sae, kme];
      const used = listeners.map(({ maxConnections, maxHandshakes, backlog }) =>
        3 * maxConnections + Math.ceil(1.2 * maxHandshakes) + backlog
      );
      used.push(3 * console.maxConnections + console.backlog);
      assert.ok(used.reduce((sum, each) => sum + each) < files, `${files}: ${used}`);
      assert.ok(listeners.every((limits) => limits.maxConnections > 0 && limits.maxHandshakes > 0));
      assert.ok(console.maxConnections >= 8);
    }
  }
  assert.deepEqual(connectionLimits(undefined, 2, false).sae, {
    maxConnections: 10_000,
    maxHandshakes: 1_000,
    backlog: 511,
  });
});
