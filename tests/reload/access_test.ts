/** Access can be taken away while something else in the configuration is wrong. */
import "reflect-metadata";
import assert from "node:assert/strict";
import { eventually } from "../harness/eventually.ts";
import { type KmeProcess, runKme } from "../harness/kme_process.ts";
import { SaeClient } from "../harness/sae_client.ts";
import type { ConfigFile, TestNetwork } from "../harness/test_network.ts";
import { KmeCaller } from "../inter_kme/rust_kme.ts";
import { assertProblem, startNetwork, stockOf } from "../sae_api/api_fixture.ts";
import { authority, client as issueClient, issue } from "../tls/authority.ts";

const posixOnly = { ignore: Deno.build.os === "windows" };

const SPEC = {
  kmes: [{ id: 1, saes: [1, 2, 4], console: true }, { id: 2, saes: [3] }, { id: 3, saes: [5] }],
};

/** Writes the configuration of KME 1 and sends SIGHUP; resolves when the log says what became of it. */
async function reload(
  network: TestNetwork,
  kme: KmeProcess,
  edit: (config: ConfigFile) => void,
): Promise<string[]> {
  const before = kme.lines.length;
  await network.writeConfig(1, edit);
  kme.signal("SIGHUP");
  const since = () => kme.lines.slice(before);
  await eventually(() => since().some((line) => /was (not )?reloaded/.test(line)), { what: "a reload" });
  return since();
}

/** Each is another kind of mistake, none of which concerns SAEs or callers. */
const MISTAKES: Record<string, (config: ConfigFile, network: TestNetwork) => void> = {
  "a missing directory": (config) => config.this_kme.key_directory_to_watch = "nowhere",
  "a missing server certificate": (config) => {
    config.this_kme.saes_https_interface.server_cert_path = "nowhere";
  },
  "an unknown member": (config) => config.this_kme.colour = "blue",
  "a neighbour without an address": (config) => delete config.other_kmes[1]!.inter_kme_bind_address,
  "a missing id of this KME": (config) => delete config.this_kme.id,
  "a certificate of another SAE": (config) => config.saes[0]!.https_client_certificate_serial = "xyz",
  "a second SAE with one id": (config) => config.saes[3]!.id = 5,
};

for (const [what, mistake] of Object.entries(MISTAKES)) {
  Deno.test(`with ${what}, an SAE and a caller are locked out all the same`, posixOnly, async () => {
    await using network = await startNetwork(SPEC);
    const kme = network.processes[0]!;
    const stolen = network.client(2);
    using caller = new KmeCaller(network, 1, network.kme(2).interKmeClient);
    const hello = () => caller.raw("POST", "/kme/v1/hello", `{"sender_KME_ID":"2"}`);
    assert.equal((await stolen.status(1)).status, 200);
    assert.equal((await hello()).status, 200);

    const lines = await reload(network, kme, (config) => {
      mistake(config, network);
      config.saes.splice(1, 1);
      config.other_kmes[0]!.https_client_certificate_serial = [1, 2, 3];
    });
    assert.ok(lines.some((line) => /applied in spite of the mistakes: SAE 2 was removed/.test(line)));
    assert.ok(lines.some((line) => /applied .*: the certificates with which KME 2 calls/.test(line)));
    assert.ok(lines.some((line) => /was not reloaded because of its mistakes, but for these/.test(line)));
    assertProblem(await stolen.status(1), 401);
    assert.equal((await hello()).status, 400);
    // Those that were not touched, or not legibly, keep their access.
    assert.equal((await network.client(1).status(4)).status, 200);
    assert.equal((await network.client(4).status(1)).status, 200);
    using third = new KmeCaller(network, 1, network.kme(3).interKmeClient);
    assert.equal((await third.raw("POST", "/kme/v1/hello", `{"sender_KME_ID":"3"}`)).status, 200);
  });
}

Deno.test(
  "a certificate is replaced while another part is wrong, but nothing wrong grants access",
  posixOnly,
  async () => {
    await using network = await startNetwork(SPEC);
    const kme = network.processes[0]!;
    const renewed = await network.issueClient(1, { commonName: "renewed" });
    using after = new SaeClient({ port: network.kme(1).saesPort, ...renewed });
    await reload(network, kme, (config) => {
      config.this_kme.colour = "blue";
      delete config.saes[1]!.https_client_certificate_serial;
      config.saes[1]!.certificates = [{ subject_cn: "renewed" }];
    });
    assertProblem(await network.client(2).status(1), 401);
    assert.equal((await after.status(1)).status, 200);

    const another = await network.issueClient(1, { commonName: "another" });
    using none = new SaeClient({ port: network.kme(1).saesPort, ...another });
    await reload(network, kme, (config) => {
      config.saes[1]!.certificates = [{ subject_cn: "renewed" }, { subject_cn: "another" }];
      config.saes[2]!.certificates = [];
    });
    assertProblem(await none.status(1), 401);
    assert.equal((await after.status(1)).status, 200);
  },
);

Deno.test("a CA that is removed is not trusted any more, whatever else is wrong", posixOnly, async () => {
  await using network = await startNetwork(SPEC);
  const kme = network.processes[0]!;
  const second = await authority("second CA");
  const path = `${network.kme(1).directory}/saes-ca.pem`;
  const { zoneCa, saesPort } = network.kme(1);
  await Deno.writeTextFile(path, `${zoneCa.ca}${second.cert}\n`);
  await reload(network, kme, ({ saes }) => {
    for (const sae of saes.filter(({ kme_id }) => kme_id === 1)) {
      delete sae.https_client_certificate_serial;
      sae.certificates = [{ subject_cn: `SAE ${sae.id}` }, { subject_cn: `SAE ${sae.id} (for tests)` }];
    }
  });
  const { cert, key } = await issueClient(second, { name: "SAE 1" });
  const connect = () =>
    new SaeClient({ port: saesPort, ca: zoneCa.ca, cert: `${cert}\n`, key, agent: false });
  using other = connect();
  assert.equal((await other.status(2)).status, 200);

  await Deno.writeTextFile(path, zoneCa.ca);
  await reload(network, kme, (config) => config.this_kme.colour = "blue");
  assert.equal((await connect().status(2)).status, 401);
  assert.equal((await network.client(1).status(2)).status, 200);
});

Deno.test("a neighbour that is removed from the file is refused", posixOnly, async () => {
  await using network = await startNetwork(SPEC);
  using caller = new KmeCaller(network, 1, network.kme(2).interKmeClient);
  const hello = () => caller.raw("POST", "/kme/v1/hello", `{"sender_KME_ID":"2"}`);
  assert.equal((await hello()).status, 200);
  await reload(network, network.processes[0]!, (config) => {
    config.other_kmes.shift();
    config.saes = config.saes.filter(({ kme_id }) => kme_id !== 2);
  });
  assert.equal((await hello()).status, 400);
});

const DAY = 86_400_000;
const past = { notBefore: new Date(Date.now() - 2 * DAY), notAfter: new Date(Date.now() - DAY) };

/** Each makes a file for the link with KME 2 expire; returns the members to write. */
const EXPIRED_FOR_A_NEIGHBOUR: Record<
  string,
  (network: TestNetwork) => Promise<Record<string, string>>
> = {
  "client certificate": async (network) => {
    const path = `${network.kme(1).directory}/expired.pem`;
    const { cert, key } = await network.interKmeCa.client(past);
    await Deno.writeTextFile(path, cert + key, { mode: 0o600 });
    const member = "https_client_authentication_certificate";
    return { [member]: path, [`${member}_password`]: "" };
  },
  "server CA": async (network) => {
    const path = `${network.kme(1).directory}/expired-ca.pem`;
    await Deno.writeTextFile(path, `${(await issue(undefined, { isCa: true, ...past })).cert}\n`);
    return { inter_kme_ca_cert_path: path };
  },
};

for (const [what, expire] of Object.entries(EXPIRED_FOR_A_NEIGHBOUR)) {
  Deno.test(`an expired ${what} for one neighbour keeps nothing else from running`, posixOnly, async (t) => {
    await using network = await startNetwork(SPEC, [1, 3, 10]);
    const kme = network.processes[0]!;
    const members = await expire(network);
    const edit = (config: ConfigFile) => {
      Object.assign(config.other_kmes[0]!, members);
      config.saes.splice(1, 1);
    };
    const works = async (process: KmeProcess) => {
      await process.waitForLine(/a link is DOWN.*other_kmes\[0\].*expired on/);
      assertProblem(await network.client(1).encKeys(3), 503);
      const enc = await network.client(1).encKeys(5);
      assert.equal(enc.status, 200, enc.text);
      const { stdout } = await runKme(["status", network.kme(1).configPath]);
      assert.match(stdout, /KME 2 +DOWN .* expired on/);
    };

    await t.step("a reload is applied", async () => {
      const lines = await reload(network, kme, edit);
      assert.ok(lines.some((line) => /was reloaded/.test(line)), lines.join("\n"));
      assertProblem(await network.client(2).status(1), 401);
      await works(kme);
    });
    await t.step("check reports a config error", async () => {
      const { code, stdout } = await runKme(["check", network.kme(1).configPath]);
      assert.equal(code, 2, stdout);
      const member = Object.keys(members)[0]!;
      assert.match(stdout, new RegExp(`fail +other_kmes\\[0\\]\\.${member} +.*expired on`));
    });
    await t.step("a start succeeds", async () => {
      assert.equal(await kme.stop(), 0);
      await network.writeKeyFile(1, 3, 5);
      const again = await network.start(1);
      await eventually(async () => await stockOf(network.client(1), 5) > 0);
      await works(again);
    });
  });
}
