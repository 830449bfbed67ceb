/** The SKIP listener of a running KME: its own CA, revocation, reload, status and check. */
import assert from "node:assert/strict";
import { eventually } from "../harness/eventually.ts";
import { runKme } from "../harness/kme_process.ts";
import { SaeClient } from "../harness/sae_client.ts";
import { makeTestNetwork } from "../harness/test_network.ts";
import { basicConstraints, bytes, CLIENT, crl, forge, keyUsage, usage } from "../x509/forge.ts";
import { assertProblem } from "../sae_api/api_fixture.ts";

Deno.test("the SKIP listener has its own CA and CRL, and is reloaded", {
  ignore: Deno.build.os === "windows",
}, async (t) => {
  await using network = await makeTestNetwork({ kmes: [{ id: 1, saes: [1, 2], skip: true, console: true }] });
  const { directory, skipPort, saesPort, zoneCa, consolePort, configPath } = network.kme(1);
  const routersCa = forge({
    commonName: "CA of routers (for tests)",
    extensions: [basicConstraints(true), keyUsage(0x06)],
  });
  const router = forge({
    issuer: routersCa,
    serial: bytes(0x57),
    commonName: "router (for tests)",
    extensions: [basicConstraints(false), usage(CLIENT)],
  });
  const crlPath = `${directory}/routers.crl`;
  const revoke = async (serials: Uint8Array[]) => {
    await Deno.writeFile(`${crlPath}.new`, crl(routersCa, { serials }));
    await Deno.rename(`${crlPath}.new`, crlPath);
  };
  await revoke([]);
  await Deno.writeTextFile(`${directory}/skip-ca.pem`, routersCa.pem.cert);
  await network.writeConfig(1, ({ this_kme, saes }) => {
    this_kme.skip_https_interface.client_crl_path = crlPath;
    for (const sae of saes) {
      delete sae.https_client_certificate_serial;
      sae.certificates = [{ subject_cn: sae.id === 1 ? "router (for tests)" : "SAE 2" }];
    }
  });
  const kme = await network.start(1);
  const client = (port: number, credentials: { cert: string; key: string }) =>
    new SaeClient({ port, ca: zoneCa.ca, ...credentials, agent: false });
  const capabilities = (credentials: { cert: string; key: string }) =>
    client(skipPort, credentials).raw({ path: "/capabilities" });

  await t.step("a certificate of one listener's CA is refused at the other", async () => {
    assert.equal((await capabilities(router.pem)).json.localSystemID, "1");
    assertProblem(await client(saesPort, router.pem).status(2), 401);
    assertProblem(await capabilities(network.sae(2)), 401);
    assert.equal((await client(saesPort, network.sae(2)).status(2)).status, 200);
  });

  await t.step("kme check and kme status know the listener", async () => {
    const { stdout } = await runKme(["check", configPath]);
    assert.match(stdout, /this_kme\.skip_https_interface\.listen_address .*in use by a running KME/);
    assert.match(stdout, /this_kme\.skip_https_interface\.client_crl_path .*0 certificates are revoked/);
    const status = await (await fetch(`http://127.0.0.1:${consolePort}/status`)).json();
    const members = status.certificates.map(({ member }: { member: string }) => member);
    assert.ok(members.includes("this_kme.skip_https_interface.server_cert_path"));
    const metrics = await (await fetch(`http://127.0.0.1:${consolePort}/metrics`)).text();
    assert.match(metrics, /^kme_crl_problems\{crl="skip"\} 0$/m);
  });

  await t.step("a revoked router is refused", async () => {
    await revoke([bytes(0x57)]);
    const becomes = (status: number) =>
      eventually(async () => (await capabilities(router.pem)).status === status, {
        what: `the router gets ${status}`,
        timeout: 60_000,
      });
    await becomes(401);
    assertProblem(await capabilities(router.pem), 401, /is revoked/);
    await revoke([]);
    await becomes(200);
  });

  let reloads = 0;
  const reload = async () => {
    kme.signal("SIGHUP");
    reloads++;
    await eventually(() => kme.lines.filter((line) => /was reloaded/.test(line)).length === reloads, {
      timeout: 60_000,
    });
  };

  await t.step("SIGHUP loads another CA; the old one is no longer trusted", async () => {
    await Deno.writeTextFile(`${directory}/skip-ca.pem`, zoneCa.ca);
    await reload();
    assert.equal((await capabilities(network.sae(2))).json.localSystemID, "2");
    assertProblem(await capabilities(router.pem), 401);
  });

  await t.step("a file with a mistake can remove a CA, but not add one", async () => {
    const ca = `${directory}/skip-ca.pem`;
    await Deno.writeTextFile(ca, zoneCa.ca + routersCa.pem.cert);
    await reload();
    assert.equal((await capabilities(router.pem)).json.localSystemID, "1");
    const { listen_address } = network.kme(1).config.this_kme.skip_https_interface;
    await network.writeConfig(1, ({ this_kme }) => this_kme.skip_https_interface.listen_address = "nowhere");
    await Deno.writeTextFile(ca, zoneCa.ca);
    kme.signal("SIGHUP");
    await kme.waitForLine(/the CA certificates for SAEs that use SKIP/);
    assertProblem(await capabilities(router.pem), 401);
    assert.equal((await capabilities(network.sae(2))).json.localSystemID, "2");
    await network.writeConfig(
      1,
      ({ this_kme }) => this_kme.skip_https_interface.listen_address = listen_address,
    );
  });

  await t.step("an SAE that is removed loses access", async () => {
    await network.writeConfig(1, (config) => config.saes = config.saes.filter(({ id }) => id !== 2));
    await reload();
    assertProblem(await capabilities(network.sae(2)), 401, /belongs to no SAE/);
  });

  await t.step("removing the listener needs a restart, which is said", async () => {
    await network.writeConfig(1, ({ this_kme }) => delete this_kme.skip_https_interface);
    await reload();
    await kme.waitForLine(/left out until the next start: this_kme\.skip_https_interface/);
    assertProblem(await capabilities(network.sae(2)), 401, /belongs to no SAE/);
    assert.equal(await kme.stop(), 0);
  });
});
