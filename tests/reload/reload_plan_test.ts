import assert from "node:assert/strict";
import { planReload } from "../../src/reload/reload_plan.ts";
import { Reloading } from "../../src/reload/reloading.ts";
import type { Config, DeviceSource, NeighbourKme } from "../../src/config/config.ts";
import { loadConfig } from "../../src/config/load.ts";
import type { ServerMaterial } from "../../src/tls/verified_server.ts";
import type { FrontMaterial } from "../../src/tls/front.ts";
import { certificatesInPem } from "../../src/x509/certificate.ts";
import { makeTestCa } from "../harness/test_certificates.ts";
import { makeTestNetwork, type TestNetwork } from "../harness/test_network.ts";

async function loaded(network: TestNetwork): Promise<Config> {
  const result = await loadConfig(network.kme(1).configPath);
  assert.ok("config" in result);
  return result.config;
}

const SPEC = { kmes: [{ id: 1, saes: [1, 2] }, { id: 2, saes: [3] }] };

Deno.test("an unchanged configuration changes nothing", async () => {
  await using network = await makeTestNetwork(SPEC);
  const config = await loaded(network);
  assert.deepEqual(planReload(config, await loaded(network)), { config, ignored: [] });
});

Deno.test("another id of the KME is left out with all that comes with it", async () => {
  await using network = await makeTestNetwork(SPEC);
  const config = await loaded(network);
  const wanted = { ...config, thisKme: { ...config.thisKme, id: { text: "7", integer: true } }, saes: [] };
  const plan = planReload(config, wanted);
  assert.equal(plan.config, config);
  assert.match(plan.ignored.join(), /this_kme\.id/);
});

Deno.test("a link stays as it is, its certificates and serial change", async () => {
  await using network = await makeTestNetwork(SPEC);
  const config = await loaded(network);
  const [neighbour] = config.otherKmes as [NeighbourKme];
  const wanted: Config = {
    ...config,
    otherKmes: [{
      ...neighbour,
      address: { hostname: "elsewhere", port: 1 },
      certificates: [{ serial: 77n }],
      serverCa: undefined,
    }],
  };
  const { config: planned, ignored } = planReload(config, wanted);
  assert.deepEqual(planned.otherKmes, [{
    ...neighbour,
    certificates: [{ serial: 77n }],
    serverCa: undefined,
  }]);
  assert.match(ignored.join(), /^the link with KME 2/);
  assert.match(planReload(config, { ...config, otherKmes: [] }).ignored.join(), /KME 2 was removed/);
  const routed: Config = { ...config, otherKmes: [{ id: neighbour.id, reachedThrough: "3" }] };
  assert.deepEqual(planReload(config, routed), {
    config: { ...config, otherKmes: [{ ...neighbour, certificates: [] }] },
    ignored: ["the route to KME 2"],
  });
});

Deno.test("the QKD device of a link gets new certificates, anything else of it needs a restart", async () => {
  await using network = await makeTestNetwork(SPEC);
  const config = withCa(await loaded(network), "old");
  const [neighbour] = config.otherKmes as [NeighbourKme];
  const clientCertificate = { ...neighbour.clientCertificate, validity: { notBefore: 1, notAfter: 2 } };
  const renewed = { ...neighbour.device!, clientCertificate, serverCa: "new" };
  const changed = (device: DeviceSource | undefined): Config => ({
    ...config,
    otherKmes: [{ ...neighbour, device }],
  });
  assert.deepEqual(planReload(config, changed(renewed)), { config: changed(renewed), ignored: [] });
  for (const device of [{ ...renewed, targetStock: 7 }, { ...renewed, serverCrl: "/crl" }]) {
    const plan = planReload(config, changed(device));
    assert.deepEqual(plan.config, changed(renewed));
    assert.match(plan.ignored.join(), /^the link with KME 2 .*QKD device/);
  }
  const without = planReload(config, changed(undefined));
  assert.deepEqual([without.config, without.ignored.length], [config, 1]);
});

Deno.test("if a part fails, the others are restored, except for who may connect", async () => {
  await using network = await makeTestNetwork(SPEC);
  const config = await loaded(network);
  const applied: string[] = [];
  const front = (name: string, fails = false) => ({
    reload: ({ serverCert }: { serverCert: string }) => {
      applied.push(`${name} ${serverCert.slice(0, 3)}`);
      if (fails && serverCert === "new") throw new Error("does not serve");
    },
  });
  const reloading = new Reloading(config, {
    fronts: new Map([["saesInterface", front("saes")], ["kmesInterface", front("kmes", true)]]),
    channels: new Map(),
    devices: new Map(),
    directory: { replace: ({ saes }) => applied.push(`directory ${saes.length}`) },
  });
  const { thisKme } = config;
  const changed = {
    ...config,
    saes: [],
    thisKme: {
      ...thisKme,
      saesInterface: { ...thisKme.saesInterface, serverCert: "new" },
      kmesInterface: { ...thisKme.kmesInterface, serverCert: "new" },
    },
  };
  assert.throws(() => reloading.reload(changed), /does not serve/);
  assert.deepEqual(applied, ["directory 0", "saes new", "kmes new", "saes ---", "kmes ---", "directory 0"]);
  assert.deepEqual(reloading.running, { ...config, saes: [] });
});

Deno.test("CA certificates that are removed stay removed, whatever part fails", async () => {
  await using network = await makeTestNetwork(SPEC);
  const [stays, goes, comes] = [
    await makeTestCa("stays"),
    await makeTestCa("goes"),
    await makeTestCa("comes"),
  ].map(({ ca }) => ca) as [string, string, string];
  const config = withCa(await loaded(network), stays + goes);
  for (const failing of ["saes", "kmes", "channel", "device"]) {
    // What each part runs with, and whether the new server certificate is in use.
    const trusted: Record<string, string[]> = {};
    const part = (name: string, ca: string, isNew: boolean) => {
      if (name === failing && isNew) throw new Error("does not serve");
      trusted[name] = certificatesInPem(ca).map(({ subjectText }) => /CN=\w+/.exec(subjectText)![0]);
    };
    const front = (name: string) => ({
      reload: ({ clientCa, serverCert }: FrontMaterial) => part(name, clientCa, serverCert === "new"),
    });
    const server = (name: string) => ({
      renew: ({ serverCa }: ServerMaterial) => part(name, serverCa!, serverCa!.includes(comes)),
    });
    const reloading = new Reloading(config, {
      fronts: new Map([["saesInterface", front("saes")], ["kmesInterface", front("kmes")]]),
      channels: new Map([["2", server("channel")]]),
      devices: new Map([["2", server("device")]]),
      directory: { replace: () => {} },
    });
    const wanted = withCa(config, stays + comes, "new");
    assert.throws(() => reloading.reload(wanted), /does not serve/);
    const all = { saes: ["CN=stays"], kmes: ["CN=stays"], channel: ["CN=stays"], device: ["CN=stays"] };
    assert.deepEqual(trusted, all, failing);
    const { thisKme, otherKmes } = reloading.running;
    assert.ok(!thisKme.saesInterface.clientCa.includes(goes));
    assert.ok(!thisKme.kmesInterface.clientCa.includes(goes));
    const [neighbour] = otherKmes as NeighbourKme[];
    assert.ok(!neighbour!.serverCa!.includes(goes));
    assert.ok(!neighbour!.device!.serverCa!.includes(goes));
    assert.equal(thisKme.saesInterface.serverCert, config.thisKme.saesInterface.serverCert);
  }
});

/** A device with the certificates of a neighbour. */
function deviceOf({ clientCertificate, serverCa }: NeighbourKme): DeviceSource {
  return {
    kind: "etsi014",
    url: { address: { hostname: "127.0.0.1", port: 1 }, path: "" },
    clientCertificate,
    serverCa,
    localSae: "201",
    remoteSae: "202",
    keySize: 256,
    keysPerRequest: 128,
    targetStock: 200,
    lowStock: 100,
    pollSeconds: 10,
  };
}

/** A configuration in which everything trusts these CA certificates. */
function withCa({ thisKme, otherKmes, ...config }: Config, ca: string, serverCert?: string): Config {
  const material = { clientCa: ca, ...serverCert === undefined ? {} : { serverCert } };
  return {
    ...config,
    thisKme: {
      ...thisKme,
      saesInterface: { ...thisKme.saesInterface, ...material },
      kmesInterface: { ...thisKme.kmesInterface, ...material },
    },
    otherKmes: (otherKmes as NeighbourKme[]).map((kme) => ({
      ...kme,
      serverCa: ca,
      device: { ...deviceOf(kme), serverCa: ca },
    })),
  };
}
