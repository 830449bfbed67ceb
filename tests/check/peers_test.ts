import "reflect-metadata";
import assert from "node:assert/strict";
import https from "node:https";
import { once } from "node:events";
import { X509Certificate } from "node:crypto";
import * as x509 from "@peculiar/x509";
import { type CheckLine, exitCode } from "../../src/check/check_line.ts";
import { checkAnswer, checkPeers } from "../../src/check/peer_checks.ts";
import type { Probe } from "../../src/check/peer_probe.ts";
import { PROTOCOL } from "../../src/inter_kme/wire.ts";
import type { NeighbourKme } from "../../src/config/config.ts";
import { eventually } from "../harness/eventually.ts";
import type { ConfigFile, TestNetwork } from "../harness/test_network.ts";
import { client } from "../tls/authority.ts";
import { ca, checked, configOf, found, inDays, serverCertificate, twoKmes } from "./check_fixture.ts";

const KME = "KME 2";
const SAES = "KME 2: SAEs";

/** What `check --peers` finds with an edited configuration, which is then put back. */
async function with_(network: TestNetwork, edit: (config: ConfigFile) => void): Promise<CheckLine[]> {
  const before = structuredClone(network.kme(1).config);
  await network.writeConfig(1, edit);
  try {
    return await checked(network, { peers: true });
  } finally {
    await network.writeConfig(1, (config) => Object.assign(config, before));
  }
}

Deno.test("a running neighbour is asked for its id and its SAEs", async (t) => {
  await using network = await twoKmes();
  await network.start(2);

  await t.step("all is well", async () => {
    const lines = await checked(network, { peers: true });
    assert.equal(exitCode(lines), 0, JSON.stringify(lines, null, 1));
    found(lines, "ok", KME, /answers and knows this KME as KME 1/);
    found(lines, "ok", SAES, /both have the same 3/);
    found(lines, "ok", "KME 2: clock", /agrees/);
    found(lines, "warn", "KME 2: certificate", /is trusted and valid until .*, in 1 day$/);
  });

  await t.step("without --peers no neighbour is called", async () => {
    assert.ok(!(await checked(network)).some(({ what }) => what === KME));
  });

  await t.step("an SAE that the neighbour does not have is a failure", async () => {
    const lines = await with_(network, ({ saes }) => void saes.push({ id: 9, kme_id: 2 }));
    found(lines, "fail", SAES, /^SAE 9 configured here as of KME 2, which does not have it/);
    assert.equal(exitCode(lines), 1);
  });

  await t.step("SAEs that only one of the two has are reported", async () => {
    const lines = await with_(network, ({ saes }) => {
      saes.splice(1, 2, { id: 4, kme_id: 1, https_client_certificate_serial: "77" });
    });
    found(lines, "warn", SAES, /^SAE 3 of KME 2 not configured here/);
    found(lines, "warn", SAES, /^SAE 4 of this KME not configured at KME 2/);
    found(lines, "warn", SAES, /^SAE 2 configured at KME 2 as of this KME, which does not have it/);
    assert.equal(exitCode(lines), 0);
  });

  await t.step("a KME with another id is a failure", async () => {
    const lines = await with_(network, ({ other_kmes, saes }) => {
      other_kmes[0]!.id = 7;
      saes[2]!.kme_id = 7;
    });
    found(lines, "fail", "KME 7", /answers as KME 2/);
  });

  await t.step("a peer that does not know this KME is a failure that names the serial", async () => {
    const lines = await with_(network, ({ this_kme, saes }) => {
      this_kme.id = 5;
      saes[0]!.kme_id = saes[1]!.kme_id = 5;
    });
    const serial = network.kme(1).interKmeClient.serialHex.replace(/^0+/, "");
    const line = found(lines, "fail", KME, /does not know this KME as KME 5/);
    assert.ok(line.fix!.includes(`0x${serial}`), line.fix!);
  });

  await t.step("a server certificate of another CA is a failure", async () => {
    const path = `${network.directory}/other-ca.pem`;
    await Deno.writeTextFile(path, `${ca.cert}\n`);
    const lines = await with_(network, ({ other_kmes }) => other_kmes[0]!.inter_kme_ca_cert_path = path);
    assert.match(found(lines, "fail", KME, /cannot be reached/).fix!, /inter_kme_ca_cert_path/);
    assert.equal(exitCode(lines), 1);
  });

  await t.step("a server certificate for another name is a failure", async () => {
    const lines = await with_(network, ({ other_kmes }) => {
      other_kmes[0]!.inter_kme_bind_address = `127.0.0.2:${network.kme(2).kmesPort}`;
    });
    found(lines, "fail", KME, /127\.0\.0\.2.* cannot be reached/);
  });

  await t.step("a client certificate of another CA is a failure", async () => {
    const path = `${network.directory}/stranger.pem`;
    const stranger = await client(ca, { notAfter: inDays(90), usages: [x509.ExtendedKeyUsage.clientAuth] });
    await Deno.writeTextFile(path, `${stranger.cert}\n${stranger.key}\n`, { mode: 0o600 });
    const lines = await with_(network, ({ other_kmes }) => {
      other_kmes[0]!.https_client_authentication_certificate = path;
      other_kmes[0]!.https_client_authentication_certificate_password = "";
    });
    found(lines, "fail", KME, /does not accept this KME's certificate/);
  });
});

Deno.test("files that only one end of a link has are named, as the running KME has found", async (t) => {
  await using network = await twoKmes();
  const blocks = "KME 2: blocks";
  await network.start(2);

  await t.step("a KME that does not run has not compared", async () => {
    found(await checked(network, { peers: true }), "ok", blocks, /^not compared: this KME does not run/);
  });

  await t.step("both have the same", async () => {
    await network.start(1);
    await eventually(
      async () =>
        (await checked(network, { peers: true })).some(({ what, detail }) =>
          what === blocks && /^both ends had the same blocks at 20/.test(detail)
        ),
      { timeout: 30_000 },
    );
  });

  await t.step("one has more", async () => {
    const path = `${network.keyDirectory(1, 2)}/a.cor`;
    await Deno.writeFile(`${path}.part`, crypto.getRandomValues(new Uint8Array(40 * 32)));
    await Deno.rename(`${path}.part`, path);
    await eventually(
      async () =>
        (await checked(network, { peers: true })).some(({ level, what, detail }) =>
          level === "warn" && what === blocks &&
          /^since 20.* the two ends have different blocks: a\.cor \(40 here, 0 there\)$/.test(detail)
        ),
      { timeout: 30_000 },
    );
  });
});

Deno.test("a neighbour that does not run is a failure, one behind another is not asked", async () => {
  await using network = await twoKmes();
  await network.writeConfig(1, ({ other_kmes }) => void other_kmes.push({ id: 3, reached_through: 2 }));
  const lines = await checkPeers(await configOf(network));
  assert.match(found(lines, "fail", KME, /cannot be reached: connection refused/).fix!, /start that KME/);
  found(lines, "ok", "KME 3", /reached through KME 2/);
});

Deno.test("a KME that does not know the message supports whole blocks only", async () => {
  await using network = await twoKmes();
  const { directory, kmesPort } = network.kme(2);
  const read = (name: string) => Deno.readTextFileSync(`${directory}/kmes-${name}.pem`);
  const peer = https.createServer(
    { ca: read("ca"), cert: read("server-cert"), key: read("server-key"), requestCert: true },
    (_request, response) => response.writeHead(404).end("Not found"),
  ).listen(kmesPort, "127.0.0.1");
  await once(peer, "listening");
  try {
    const lines = await checked(network, { peers: true });
    found(lines, "ok", KME, /only supports keys of 256 bits for one slave .*qkd_kme_server/);
    assert.equal(exitCode(lines), 0);
  } finally {
    peer.close();
  }
});

Deno.test("other answers", async () => {
  await using network = await twoKmes();
  const config = await configOf(network);
  const [neighbour] = config.otherKmes as [NeighbourKme];
  const server = new X509Certificate((await serverCertificate(ca, { notAfter: inDays(90) })).cert);
  const hello = { protocol: 1, KME_ID: "2", SAE_IDs: ["3"] };
  const lines = (answer: Partial<Probe & { kind: "answered" }>) =>
    checkAnswer(config, neighbour, {
      kind: "answered",
      server,
      status: 200,
      body: JSON.stringify(hello),
      ...answer,
    });
  found(lines({}), "ok", SAES, /it has the 1 that are configured here/);
  found(lines({}), "ok", "KME 2: certificate", /valid until/);
  found(
    lines({ body: JSON.stringify({ ...hello, protocol: PROTOCOL + 1 }) }),
    "warn",
    KME,
    new RegExp(`uses version ${PROTOCOL + 1}`),
  );
  // An older version does not tell its direction, and a newer one may know another.
  for (const direction of [undefined, "someday"]) {
    const told = lines({ body: JSON.stringify({ ...hello, device_direction: direction }) });
    found(told, "ok", SAES, /it has the 1 that are configured here/);
    assert.ok(!told.some(({ what }) => what === "KME 2: QKD device"));
  }
  found(lines({ clockAhead: 61_000 }), "warn", "KME 2: clock", /61 s ahead of this machine/);
  found(lines({ clockAhead: -10_000 }), "warn", "KME 2: clock", /10 s behind this machine/);
  found(lines({ status: 503, body: "{}" }), "fail", KME, /answers with status 503/);
  found(lines({ body: "no JSON" }), "fail", KME, /answers with status 200/);
});
