import { basicConstraints, bytes, crl, forge, keyUsage, pemOf } from "../x509/forge.ts";
import { checked, found, twoKmes } from "./check_fixture.ts";

Deno.test("a CRL file has a line: valid, of another CA, out of date, missing", async () => {
  await using network = await twoKmes();
  const root = forge({
    commonName: "second CA (for tests)",
    extensions: [basicConstraints(true), keyUsage(0x06)],
  });
  const { directory, zoneCa } = network.kme(1);
  const path = `${directory}/clients.crl`;
  const member = "this_kme.saes_https_interface.client_crl_path";
  await Deno.writeTextFile(`${directory}/saes-ca.pem`, `${zoneCa.ca}${root.pem.cert}`);
  await Deno.writeFile(path, crl(root, { serials: [bytes(1), bytes(2)] }));
  await network.writeConfig(1, (config) => {
    config.this_kme.saes_https_interface.client_crl_path = path;
    for (const sae of config.saes.filter(({ kme_id }) => kme_id === 1)) {
      delete sae.https_client_certificate_serial;
      sae.certificates = [{ subject_cn: `SAE ${sae.id}` }];
    }
  });
  found(await checked(network), "ok", member, /^2 certificates are revoked, current until \d{4}-/);
  await Deno.writeFile(path, crl({ subject: root.subject, key: forge().key }));
  found(await checked(network), "warn", member, /CN=second CA \(for tests\) is not signed by a CA/);
  await Deno.writeFile(path, crl(root, { nextUpdate: new Date(Date.now() - 1000) }));
  found(await checked(network), "warn", member, /is out of date since/);
  const old = crl(root, { thisUpdate: new Date(Date.now() - 2 * 86_400_000) });
  await Deno.writeTextFile(path, pemOf("X509 CRL", crl(root)) + pemOf("X509 CRL", old));
  found(await checked(network), "warn", member, /is older than the one in force, .* and is not used/);
  await Deno.remove(path);
  found(await checked(network), "fail", member, /does not exist/);
});
