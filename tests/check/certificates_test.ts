import "reflect-metadata";
import assert from "node:assert/strict";
import * as x509 from "@peculiar/x509";
import { exitCode } from "../../src/check/check_line.ts";
import { authority, issue } from "../tls/authority.ts";
import {
  ca,
  checked,
  found,
  inDays,
  putClientCa,
  putServer,
  serverCertificate,
  twoKmes,
} from "./check_fixture.ts";

const SAES_CA = "this_kme.saes_https_interface.ca_client_cert_path";
const SAES_CERT = "this_kme.saes_https_interface.server_cert_path";
const KMES_CA = "this_kme.kmes_https_interface.ca_client_cert_path";
const CLIENT = "other_kmes[0].https_client_authentication_certificate";

Deno.test("a correct configuration has no failure, and a line for every certificate", async () => {
  await using network = await twoKmes();
  const lines = await checked(network);
  assert.equal(exitCode(lines), 0, JSON.stringify(lines, null, 1));
  found(lines, "ok", "configuration", /KME 1 with 2 of 3 SAEs, 1 of 1 other KMEs/);
  found(lines, "ok", SAES_CA, /zone CA of KME 1/);
  found(lines, "ok", SAES_CERT, /issued by CN=zone CA of KME 1.*valid until \d{4}-/);
  found(lines, "ok", SAES_CERT, /is for localhost, 127\.0\.0\.1, ::1/);
  found(lines, "ok", KMES_CA, /inter-KME CA/);
  found(lines, "ok", CLIENT, /issued by CN=inter-KME CA/);
  found(lines, "ok", "other_kmes[0].inter_kme_ca_cert_path", /KME 2 needs a certificate of CN=inter-KME CA/);
  found(lines, "ok", "this_kme.debugging_http_interface", /only this machine/);
});

Deno.test("a certificate that expires within 30 days is a warning, others are not", async () => {
  await using network = await twoKmes();
  await putServer(network, "saes", await serverCertificate());
  const lines = await checked(network);
  // The harness' certificates last for two days.
  found(lines, "warn", "this_kme.kmes_https_interface.server_cert_path", /expires on .*in 1 day/);
  assert.ok(!lines.some(({ what, detail }) => what === SAES_CERT && /expires/.test(detail)));
  await putServer(network, "saes", await serverCertificate(ca, { notAfter: inDays(29.5) }));
  const line = found(await checked(network), "warn", SAES_CERT, /in 29 days/);
  assert.match(line.fix!, /SIGHUP/);
});

Deno.test("mistakes of the configuration are failures that ask for exit code 2", async () => {
  await using network = await twoKmes();
  await putServer(network, "saes", await serverCertificate(ca, { notAfter: inDays(-0.1) }));
  await network.writeConfig(1, (config) => config.saes[0]!.kme_id = 7);
  const lines = await checked(network);
  assert.match(
    found(lines, "fail", "saes[0].kme_id", /^no KME 7 is configured$/).fix!,
    /^write one of 1, 2/,
  );
  found(lines, "fail", SAES_CERT, /^the certificate expired on/);
  assert.equal(exitCode(lines), 2);
});

Deno.test(
  "a private key that all users may read is a warning, one that its group may read is none",
  { ignore: Deno.build.os === "windows" },
  async () => {
    await using network = await twoKmes();
    const key = `${network.kme(1).directory}/kmes-server-key.pem`;
    // As docs/operations.md sets it up: root owns the file, the group of the KME reads it.
    await Deno.chmod(key, 0o640);
    found(await checked(network), "ok", "private keys", /only their owners and groups/);
    await Deno.chmod(key, 0o604);
    const lines = await checked(network);
    const line = found(
      lines,
      "warn",
      "this_kme.kmes_https_interface.server_key_path",
      /readable for all users/,
    );
    assert.match(line.fix!, /chmod o-rwx/);
    assert.ok(!lines.some(({ what }) => what === "private keys"));
  },
);

Deno.test("a client CA that is not a CA is reported, as at the start", async () => {
  await using network = await twoKmes();
  await putClientCa(network, "saes", (await serverCertificate()).cert);
  const lines = await checked(network);
  found(lines, "fail", SAES_CA, /no CA certificate for clients/);
  assert.equal(exitCode(lines), 2);
});

Deno.test("one CA for SAEs and KMEs, where an SAE could call as a KME, is one warning", async () => {
  await using network = await twoKmes();
  await putClientCa(network, "kmes", network.kme(1).zoneCa.ca);
  assert.ok(!(await checked(network)).some(({ level, what }) => level === "warn" && what === KMES_CA));
  await network.writeConfig(1, ({ other_kmes }) => delete other_kmes[0]!.https_client_certificate_serial);
  const lines = await checked(network);
  found(lines, "warn", KMES_CA, /every SAE can call as KME 2$/);
  assert.equal(lines.filter(({ what, level }) => what === KMES_CA && level !== "ok").length, 1);
});

Deno.test("a server certificate that is not for servers is found", async () => {
  await using network = await twoKmes();
  await putServer(
    network,
    "saes",
    await serverCertificate(ca, { usages: [x509.ExtendedKeyUsage.clientAuth] }),
  );
  const lines = await checked(network);
  found(lines, "fail", SAES_CERT, /not for TLS servers/);
  assert.equal(exitCode(lines), 2);
});

Deno.test("a CA's own certificate as the server's, and a self-signed one, are warnings", async () => {
  await using network = await twoKmes();
  await putServer(network, "saes", ca);
  found(await checked(network), "warn", SAES_CERT, /is a CA certificate/);
  await putServer(network, "saes", await issue(undefined, { name: "alone", notAfter: inDays(90) }));
  found(await checked(network), "warn", SAES_CERT, /self-signed/);
});

Deno.test("a chain is verified through intermediates, and each way to break it is reported", async () => {
  await using network = await twoKmes();
  const intermediate = await issue(ca, { name: "intermediate", isCa: true, notAfter: inDays(300) });
  const server = await serverCertificate(intermediate);
  const put = (...chain: { cert: string }[]) =>
    putServer(network, "saes", { cert: chain.map(({ cert }) => cert).join("\n"), key: server.key });

  await put(server, intermediate);
  found(await checked(network), "warn", SAES_CERT, /issued by CN=CA \(for tests\), which is in no CA file/);
  await putClientCa(network, "saes", ca.cert);
  found(await checked(network), "ok", SAES_CERT, /issued by CN=CA \(for tests\)/);
  await put(server, ca);
  const disorder = await checked(network);
  found(disorder, "fail", SAES_CERT, /certificate 2 in the file did not issue certificate 1/);
  assert.equal(exitCode(disorder), 2);

  const impostor = await authority("CA", { notAfter: inDays(400) });
  await put(server, intermediate);
  await putClientCa(network, "saes", impostor.cert);
  const otherKey = await checked(network);
  found(otherKey, "fail", SAES_CERT, /the CA of that name here has another key/);
  assert.equal(exitCode(otherKey), 2);
});

Deno.test("a server certificate is compared with the address that is listened on", async () => {
  await using network = await twoKmes();
  const listen = (address: string) =>
    network.writeConfig(1, (config) => {
      config.this_kme.saes_https_interface.listen_address = `${address}:${network.kme(1).saesPort}`;
    });
  await putServer(network, "saes", await serverCertificate(ca, { hosts: ["kme1.example"] }));
  found(await checked(network), "warn", SAES_CERT, /is for kme1\.example, not for 127\.0\.0\.1/);
  await putServer(network, "saes", await serverCertificate(ca, { hosts: [] }));
  found(await checked(network), "warn", SAES_CERT, /names no host or address/);

  await listen("0.0.0.0");
  await putServer(network, "saes", await serverCertificate());
  found(await checked(network), "warn", SAES_CERT, /is for 127\.0\.0\.1 only, but the listener is open/);
  await putServer(network, "saes", await serverCertificate(ca, { hosts: ["kme1.example", "127.0.0.1"] }));
  found(await checked(network), "ok", SAES_CERT, /clients have to use one of these names/);
  await listen("localhost");
  await putServer(network, "saes", await serverCertificate(ca, { hosts: ["localhost"] }));
  found(await checked(network), "ok", SAES_CERT, /is for localhost$/);
});

Deno.test("a client certificate for peers has to be one for clients, of a CA with its key", async () => {
  await using network = await twoKmes();
  const path = `${network.kme(1).directory}/client.pem`;
  await network.writeConfig(1, (config) => {
    config.other_kmes[0]!.https_client_authentication_certificate = path;
    config.other_kmes[0]!.https_client_authentication_certificate_password = "";
  });
  const put = ({ cert, key }: { cert: string; key: string }) =>
    Deno.writeTextFile(path, `${cert}\n${key}\n`, { mode: 0o600 });

  await put(await serverCertificate());
  const lines = await checked(network);
  found(lines, "fail", CLIENT, /not for TLS clients/);
  assert.equal(exitCode(lines), 2);

  const client = await issue(ca, { usages: [x509.ExtendedKeyUsage.clientAuth], notAfter: inDays(90) });
  await put(client);
  found(await checked(network), "ok", CLIENT, /use --peers to see whether KME 2 accepts it/);
  await Deno.writeTextFile(`${network.kme(1).directory}/kmes-ca.pem`, (await authority("CA")).cert);
  found(await checked(network), "fail", CLIENT, /has another key/);
});

Deno.test("a console that other hosts can reach is a warning, and a missing one is no mistake", async () => {
  await using network = await twoKmes();
  const what = "this_kme.debugging_http_interface";
  await network.writeConfig(1, (config) => {
    config.this_kme.debugging_http_interface = `0.0.0.0:${network.kme(1).consolePort}`;
  });
  assert.match(
    found(await checked(network), "warn", what, /has no authentication/).fix!,
    /127\.0\.0\.1/,
  );
  await network.writeConfig(1, (config) => delete config.this_kme.debugging_http_interface);
  found(await checked(network), "ok", what, /no console/);
});
