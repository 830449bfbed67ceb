/** A running KME with CRLs and a minimum version of TLS. */
import assert from "node:assert/strict";
import { eventually } from "../harness/eventually.ts";
import { runKme } from "../harness/kme_process.ts";
import { SaeClient } from "../harness/sae_client.ts";
import { makeTestNetwork } from "../harness/test_network.ts";
import { basicConstraints, bytes, CLIENT, crl, forge, keyUsage, usage } from "../x509/forge.ts";

Deno.test("a CRL excludes a stolen certificate of an SAE, and a TLS version below the configured one is refused", async () => {
  await using network = await makeTestNetwork({ kmes: [{ id: 1, saes: [1, 2], console: true }] });
  const root = forge({
    commonName: "second CA (for tests)",
    extensions: [basicConstraints(true), keyUsage(0x06)],
  });
  const extensions = [basicConstraints(false), usage(CLIENT)];
  const stolen = forge({ issuer: root, serial: bytes(0x57), commonName: "stolen (for tests)", extensions });
  const { directory, zoneCa, saesPort, consolePort } = network.kme(1);
  const path = `${directory}/clients.crl`;
  const put = async (serials: Uint8Array[]) => {
    await Deno.writeFile(`${path}.new`, crl(root, { serials }));
    await Deno.rename(`${path}.new`, path);
  };
  await put([]);
  await Deno.writeTextFile(`${directory}/saes-ca.pem`, `${zoneCa.ca}${root.pem.cert}`);
  await network.writeConfig(1, (config) => {
    config.this_kme.saes_https_interface.client_crl_path = path;
    config.this_kme.tls_min_version = "1.3";
    for (const sae of config.saes) {
      delete sae.https_client_certificate_serial;
      sae.certificates = [{ subject_cn: sae.id === 1 ? "stolen (for tests)" : `SAE ${sae.id}` }];
    }
  });
  await network.start(1);
  const sae = (options = {}) => new SaeClient({ port: saesPort, ca: zoneCa.ca, ...stolen.pem, ...options });
  const metrics = async () => await (await fetch(`http://127.0.0.1:${consolePort}/metrics`)).text();

  using kept = sae();
  assert.equal((await kept.status(2)).status, 200);
  using old = sae({ minVersion: "TLSv1.2", maxVersion: "TLSv1.2" });
  await assert.rejects(old.status(2));
  assert.match(await metrics(), /^kme_crl_problems\{crl="sae"[^}]*\} 0$/m);

  await put([bytes(0x57)]);
  await eventually(async () => (await kept.status(2).catch(() => ({ status: 0 }))).status === 401, {
    what: "the certificate is refused",
  });
  assert.match((await sae({ agent: false }).status(2)).json.message, /^CN=stolen \(for tests\) is revoked/);
  assert.match(await metrics(), /^kme_tls_refused_clients_total\{.*reason="revoked".*\} [1-9]/m);

  await Deno.writeTextFile(path, "nonsense");
  await eventually(async () => /^kme_crl_problems\{crl="sae"[^}]*\} 1$/m.test(await metrics()), {
    what: "the problem is seen",
  });
  assert.equal((await sae({ agent: false }).status(2)).status, 401);
});

Deno.test("an older CRL is refused after a restart as well, with a warning, a metric and a line of kme check", async () => {
  await using network = await makeTestNetwork({
    kmes: [{ id: 1, saes: [1, 2], database: "sqlite", console: true }],
  });
  const root = forge({
    commonName: "second CA (for tests)",
    extensions: [basicConstraints(true), keyUsage(0x06)],
  });
  const extensions = [basicConstraints(false), usage(CLIENT)];
  const stolen = forge({ issuer: root, serial: bytes(0x57), commonName: "stolen (for tests)", extensions });
  const { directory, zoneCa, saesPort, consolePort, configPath } = network.kme(1);
  const path = `${directory}/clients.crl`;
  const hoursAgo = (hours: number) => new Date(Date.now() - hours * 3_600_000);
  const before = crl(root, { thisUpdate: hoursAgo(2) });
  await Deno.writeFile(path, crl(root, { serials: [bytes(0x57)], thisUpdate: hoursAgo(1) }));
  await Deno.writeTextFile(`${directory}/saes-ca.pem`, `${zoneCa.ca}${root.pem.cert}`);
  await network.writeConfig(1, (config) => {
    config.this_kme.saes_https_interface.client_crl_path = path;
    for (const sae of config.saes) {
      delete sae.https_client_certificate_serial;
      sae.certificates = [{ subject_cn: sae.id === 1 ? "stolen (for tests)" : `SAE ${sae.id}` }];
    }
  });
  const status = async () => {
    using client = new SaeClient({ port: saesPort, ca: zoneCa.ca, ...stolen.pem, agent: false });
    return (await client.status(2)).status;
  };
  const problems = async () => {
    const text = await (await fetch(`http://127.0.0.1:${consolePort}/metrics`)).text();
    return /^kme_crl_problems\{crl="sae"[^}]*\} (\d+)$/m.exec(text)?.[1];
  };

  const first = await network.start(1);
  assert.deepEqual([await status(), await problems()], [401, "0"]);
  assert.equal(await first.stop(), 0);

  await Deno.writeFile(path, before);
  const second = await network.start(1);
  assert.deepEqual([await status(), await problems()], [401, "1"]);
  await second.waitForLine(
    /WARN.*the CRL of CN=second CA \(for tests\) of \S+ is older than the one in force/,
  );
  assert.equal(await second.stop(), 0);
  const check = await runKme(["check", configPath]);
  assert.match(check.stdout, /^warn .*client_crl_path .*is older than the one in force/m);

  await Deno.writeFile(path, crl(root, { thisUpdate: hoursAgo(0.5) }));
  await network.start(1);
  assert.deepEqual([await status(), await problems()], [200, "0"]);
});
