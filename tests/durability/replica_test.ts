/** Two processes of KME 1 on one database; one of them is killed, or stopped until the other regards it as dead. */
import assert from "node:assert/strict";
import { databaseTest, queryDatabase } from "../harness/databases.ts";
import { eventually } from "../harness/eventually.ts";
import { freePorts } from "../harness/free_port.ts";
import type { KmeProcess } from "../harness/kme_process.ts";
import { Audit, pause } from "./ledger_audit.ts";
import { startCuttingProxy } from "./cutting_proxy.ts";
import { KMES, makePair, SAES } from "./pair.ts";
import { Random } from "./random.ts";
import { makeReplica } from "./replicas.ts";

/** In each link. */
const BLOCKS = 15_000;

const INGESTED = /: \d+ keys stored/;

for (const kind of ["postgres", "mariadb", "mysql"] as const) {
  databaseTest(kind, "SIGKILL and SIGSTOP of one of two replicas under load", async (uri, server) => {
    const random = new Random();
    await using pair = await makePair({
      databases: [uri, await server.createDatabase()],
      // A busy machine must not let the lease of a process end that runs.
      options: { lease_seconds: 10 },
    });
    const { network } = pair;
    const replica = await makeReplica(network);
    const audit = new Audit({
      network,
      kmes: KMES,
      saes: SAES,
      ports: { "1": [network.kme("1").saesPort, replica.saesPort] },
      random,
    });
    for (const [a, b] of [["1", "1"], ["2", "2"], ["1", "2"]] as const) await audit.addKeys(a, b, BLOCKS);
    // At the same time, so that both processes of KME 1 find an empty database.
    let [second] = await Promise.all([replica.start(), pair.start(...KMES)]);
    await using _ends = { [Symbol.asyncDispose]: () => second.kill() };
    await pair.untilStocked(BLOCKS);
    const ingesting = await eventually(() => {
      const found = [pair.process("1"), second].filter(({ lines }) =>
        lines.some((line) => INGESTED.test(line))
      );
      return found.length > 0 && found;
    }, { what: "the line of the process that ingests" });
    assert.equal(ingesting.length, 1, "one process ingests key files");
    audit.startLoad(2);

    // The process that ingests key files is killed last.
    const ingester = ingesting[0] === second ? "second" : "first";
    let secondId: string | undefined;
    for (const victim of ingester === "first" ? ["second", "first"] : ["first", "second"]) {
      await audit.untilDelivered(random.between(30, 60));
      await pause(random.between(0, 100));
      if (victim === "second") {
        const known = await processes(uri);
        await audit.kill(["1"], () => second.kill());
        await audit.untilDelivered(30);
        if (ingester === victim) await untilTakenOver(pair.process("1"), audit);
        second = await replica.start();
        secondId = await newProcess(uri, known);
      } else {
        await audit.kill(["1"], () => pair.kill("1"));
        await audit.untilDelivered(10); // KME 2 cannot reach the other process, which can still reach KME 2
        if (ingester === victim) await untilTakenOver(second, audit);
        await pair.start("1");
      }
    }

    // A stopped process that the other regards as dead continues.
    await audit.untilDelivered(30);
    await audit.kill(["1"], async () => {
      second.signal("SIGSTOP");
      await untilAdopted(uri, secondId!);
      second.signal("SIGCONT");
      // Until then the other one adopts what it reserves, and blocks of requests that begin may be burnt.
      await untilRunning(uri, secondId!);
    });
    await audit.untilDelivered(30);
    await audit.stopLoad();
    await audit.checkClosed(30);
    await pair.finish({ audit, more: [second] });
    await audit.checkLedgers();
    audit.report(`${kind}, two replicas`);
  });

  databaseTest(kind, "a key that another process takes back is not delivered", async (uri, server) => {
    const [firstPort, secondPort] = freePorts(2) as [number, number];
    await using pair = await makePair({
      databases: [uri, await server.createDatabase()],
      options: { inter_kme_timeout_seconds: 30, lease_seconds: 60 },
      edit: (config, id) => {
        if (id === "1") config.other_kmes[0]!.inter_kme_bind_address = `127.0.0.1:${firstPort}`;
      },
    });
    const { network } = pair;
    const replica = await makeReplica(network, secondPort);
    using firstProxy = await startCuttingProxy(network.kme("2").kmesPort, firstPort);
    using secondProxy = await startCuttingProxy(network.kme("2").kmesPort, secondPort);
    const audit = new Audit({
      network,
      kmes: KMES,
      saes: SAES,
      ports: { "1": [replica.saesPort] },
      random: new Random(),
    });
    await audit.addKeys("1", "2", 10);
    await pair.start(...KMES);
    await using second = await replica.start();
    const stockAtPeer = (count: number) =>
      eventually(async () => await pair.stock("2", "1") === count, { what: `${count} blocks at the peer` });
    await stockAtPeer(10);
    assert.equal((await audit.ask("1", ["2"]))?.status, 200);

    await secondProxy.setMode("hold answers");
    const asked = audit.ask("1", ["22"]);
    await stockAtPeer(8);
    // As if its lease had ended long ago. The first process has the key taken back, and has no answer to that yet.
    await firstProxy.setMode("hold answers");
    await queryDatabase(uri, "delete from processes");
    await stockAtPeer(9);
    await secondProxy.setMode("pass");
    assert.equal((await asked)?.status, 503);
    await firstProxy.setMode("pass");
    await audit.read("2", "1", audit.keyIds());
    await pair.finish({ audit, more: [second] });
    await audit.checkLedgers({ burnt: 0 });
  });
}

/** The other process ingests key files when the lease of the killed one has ended. */
async function untilTakenOver(process: KmeProcess, audit: Audit): Promise<void> {
  await audit.addKeys("1", "1", 10, "taken-over.cor");
  await process.waitForLine(/taken-over.cor.*: 10 keys stored/, 120_000);
}

/** The processes that the database knows, by their ids: those that run, and for a day those that have been killed. */
async function processes(uri: string, where = "1 = 1"): Promise<string[]> {
  const rows = await queryDatabase(uri, `select process_id from processes where ${where}`);
  return (rows as { process_id: Uint8Array }[]).map(({ process_id }) => Uint8Array.from(process_id).toHex());
}

/** The process that has been started since. */
async function newProcess(uri: string, known: readonly string[]): Promise<string> {
  const found = (await processes(uri)).filter((id) => !known.includes(id));
  assert.equal(found.length, 1, "one process was started");
  return found[0]!;
}

/** The lease of a process has ended, and the other one has adopted its reservations. */
async function untilAdopted(uri: string, id: string): Promise<void> {
  await eventually(async () => {
    if (!(await processes(uri, `lease_until < ${Date.now()}`)).includes(id)) return false;
    const rows = await queryDatabase(uri, "select process_id from reservations");
    return (rows as { process_id: Uint8Array }[]).every(({ process_id }) =>
      Uint8Array.from(process_id).toHex() !== id
    );
    // A transaction that was under way is ended by the server after a while.
  }, { what: "the adoption of the reservations", timeout: 120_000, interval: 200 });
}

/** A process that was stopped renews its lease again. */
async function untilRunning(uri: string, id: string): Promise<void> {
  await eventually(async () => (await processes(uri, `lease_until > ${Date.now()}`)).includes(id), {
    what: "the renewal of the lease",
    timeout: 120_000,
    interval: 50,
  });
}
