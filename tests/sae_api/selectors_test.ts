/** Which certificates identify an SAE: names, fingerprints, serial numbers of an issuer. */
import "reflect-metadata";
import assert from "node:assert/strict";
import { createHash, X509Certificate } from "node:crypto";
import * as x509 from "@peculiar/x509";
import { eventually } from "../harness/eventually.ts";
import { runKme } from "../harness/kme_process.ts";
import { SaeClient, type SaeResponse } from "../harness/sae_client.ts";
import { makeTestNetwork, type TestNetwork } from "../harness/test_network.ts";
import { authority, client, issue, type TestCertificate } from "../tls/authority.ts";
import { assertProblem } from "./api_fixture.ts";

/** KME 1 with these SAEs, each with its `certificates`; the clients' CA file holds these certificates. */
async function zone(
  authorities: readonly TestCertificate[],
  saes: Record<string, Record<string, unknown>[]>,
): Promise<TestNetwork> {
  const network = await makeTestNetwork({
    kmes: [{ id: 1, saes: Object.keys(saes) }],
    edit: (config) => {
      for (const sae of config.saes) {
        delete sae.https_client_certificate_serial;
        sae.certificates = saes[sae.id];
      }
    },
  });
  await Deno.writeTextFile(
    `${network.kme(1).directory}/saes-ca.pem`,
    authorities.map(({ cert }) => `${cert}\n`).join(""),
  );
  return network;
}

function clientOf(network: TestNetwork, ...chain: TestCertificate[]): SaeClient {
  const { saesPort, zoneCa } = network.kme(1);
  const cert = chain.map(({ cert }) => `${cert}\n`).join("");
  return new SaeClient({ port: saesPort, ca: zoneCa.ca, cert, key: chain[0]!.key });
}

/** The SAE whose certificate it is; the status code where it is none's. */
async function identityOf(network: TestNetwork, ...chain: TestCertificate[]): Promise<string | number> {
  using client = clientOf(network, ...chain);
  const { status, json } = await client.raw({ path: "/api/v1/sae/info/me" });
  return status === 200 ? json.SAE_ID : status;
}

function names(...values: { type: "dns" | "url" | "email"; value: string }[]): x509.Extension[] {
  return [new x509.SubjectAlternativeNameExtension(values)];
}

const sha256 = ({ cert }: TestCertificate) =>
  createHash("sha256").update(new X509Certificate(cert).raw).digest("hex");

Deno.test("an SAE is identified by each kind of selector, and others are not", async () => {
  const ca = await authority("zone", { notAfter: new Date(Date.now() + 400 * 86_400_000) });
  const byFingerprint = await client(ca, { name: "one of many" });
  await using network = await zone([ca], {
    cn: [{ subject_cn: "Router 7 (for tests)" }],
    dns: [{ san_dns: "SAE.example" }],
    uri: [{ san_uri: "urn:sae:1" }],
    email: [{ san_email: "sae@example.org" }],
    fingerprint: [{ fingerprint_sha256: sha256(byFingerprint).replace(/..(?=.)/g, "$&:").toUpperCase() }],
    issuerCn: [{ serial: "0a01", issuer_cn: "zone (for tests)" }],
    issuerSha256: [{ serial: [0x0a, 2], issuer_sha256: sha256(ca) }],
    serial: [{ serial: "0a03" }],
    both: [{ subject_cn: "both (for tests)", san_dns: "both.example" }],
    several: [{ subject_cn: "old (for tests)" }, { san_dns: "new.example" }],
  });
  await network.start(1);
  const identify = async (options: Parameters<typeof client>[1]) =>
    await identityOf(network, await client(ca, options));
  const cases: [string | number, Parameters<typeof client>[1]][] = [
    ["cn", { name: "Router 7" }],
    [404, { name: "router 7" }],
    [404, { name: "Router 7 (for tests), CN=Router 7" }],
    [404, { name: "x", extensions: names({ type: "dns", value: "Router 7 (for tests)" }) }],
    ["dns", {
      extensions: names({ type: "dns", value: "other.example" }, { type: "dns", value: "sae.EXAMPLE" }),
    }],
    [404, { name: "sae.example" }],
    [404, { extensions: names({ type: "dns", value: "*.example" }) }],
    [404, { extensions: names({ type: "email", value: "sae.example" }) }],
    ["uri", { extensions: names({ type: "url", value: "urn:sae:1" }) }],
    [404, { extensions: names({ type: "url", value: "urn:SAE:1" }) }],
    ["email", { extensions: names({ type: "email", value: "sae@example.org" }) }],
    [404, { name: "one of many" }],
    ["issuerCn", { serial: "0a01" }],
    ["issuerSha256", { serial: "0a02" }],
    ["serial", { serial: "0a03" }],
    ["both", { name: "both", extensions: names({ type: "dns", value: "both.example" }) }],
    [404, { name: "both" }],
    [404, { extensions: names({ type: "dns", value: "both.example" }) }],
    ["several", { name: "old" }],
    ["several", { name: "new", extensions: names({ type: "dns", value: "new.example" }) }],
  ];
  for (const [expected, options] of cases) {
    assert.equal(await identify(options), expected, JSON.stringify(options));
  }
  assert.equal(await identityOf(network, byFingerprint), "fingerprint");
});

Deno.test("with two CAs a serial number counts for the certificates of its issuer only", async () => {
  const [first, second] = [await authority("first"), await authority("second")];
  await using network = await zone([first, second], {
    one: [{ serial: "0a01", issuer_cn: "first (for tests)" }],
    two: [{ serial: "0a01", issuer_sha256: sha256(second) }],
  });
  const kme = await network.start(1);
  assert.equal(await identityOf(network, await client(first, { serial: "0a01" })), "one");
  assert.equal(await identityOf(network, await client(second, { serial: "0a01" })), "two");
  assert.equal(await kme.stop(), 0);

  await network.writeConfig(1, ({ saes }) => {
    delete saes[0]!.certificates;
    saes[0]!.https_client_certificate_serial = [0x0a, 1];
  });
  const { code, stderr } = await runKme([network.kme(1).configPath]);
  assert.equal(code, 2, stderr);
  assert.match(
    stderr,
    /saes\[0\]\.https_client_certificate_serial: .*several CA.*write certificates: \[\{ serial: "a01", issuer_cn: "first/,
  );
});

Deno.test("a serial number without issuer does not mean certificates of an intermediate CA", async () => {
  const root = await authority("root");
  const intermediate = await issue(root, { name: "intermediate", isCa: true });
  await using network = await zone([root], {
    direct: [{ serial: "0a01" }],
    indirect: [{ serial: "0a02", issuer_cn: "intermediate (for tests)" }],
  });
  const kme = await network.start(1);
  assert.equal(await identityOf(network, await client(root, { serial: "0a01" })), "direct");
  const impostor = await client(intermediate, { serial: "0a01" });
  assert.equal(await identityOf(network, impostor, intermediate), 404);
  using refused = clientOf(network, impostor, intermediate);
  assertProblem(await refused.status("direct"), 401);
  await kme.waitForLine(/serial number of SAE direct, but not its issuer.*issuer_cn/);
  assert.equal(
    await identityOf(network, await client(intermediate, { serial: "0a02" }), intermediate),
    "indirect",
  );
});

Deno.test("a certificate that identifies two SAEs is refused, and the log names both", async () => {
  const ca = await authority("zone");
  await using network = await zone([ca], {
    first: [{ subject_cn: "ambiguous (for tests)" }],
    second: [{ san_dns: "ambiguous.example" }],
  });
  const kme = await network.start(1);
  const extensions = names({ type: "dns", value: "ambiguous.example" });
  using ambiguous = clientOf(network, await client(ca, { name: "ambiguous", extensions }));
  assertProblem(await ambiguous.status("second"), 401, /more than one SAE/);
  assertProblem(await ambiguous.raw({ path: "/api/v1/sae/info/me" }), 401, /more than one SAE/);
  await kme.waitForLine(/identifies several SAEs \(first, second\)/);
  assert.equal(await identityOf(network, await client(ca, { name: "ambiguous" })), "first");
});

Deno.test("a certificate is renewed without downtime, by name and by fingerprint", {
  ignore: Deno.build.os === "windows",
}, async () => {
  const ca = await authority("zone");
  const extensions = names({ type: "dns", value: "named.example" });
  const [old, renewed] = [await client(ca, { name: "old" }), await client(ca, { name: "new" })];
  await using network = await zone([ca], {
    named: [{ san_dns: "named.example" }],
    pinned: [{ fingerprint_sha256: sha256(old) }],
  });
  const kme = await network.start(1);
  const reload = async (...certificates: TestCertificate[]) => {
    const before = kme.lines.length;
    await network.writeConfig(1, ({ saes }) => {
      saes[1]!.certificates = certificates.map((each) => ({ fingerprint_sha256: sha256(each) }));
    });
    kme.signal("SIGHUP");
    await eventually(() => kme.lines.slice(before).some((line) => /was reloaded/.test(line)));
  };

  // By name nothing changes in the configuration.
  const [first, second] = [
    await client(ca, { name: "a", extensions }),
    await client(ca, { name: "b", extensions }),
  ];
  assert.deepEqual([await identityOf(network, first), await identityOf(network, second)], ["named", "named"]);

  // By fingerprint both are accepted for a while, and no request of either fails.
  using before = clientOf(network, old);
  using after = clientOf(network, renewed);
  const answers: SaeResponse[] = [];
  let stopped = false;
  let current = before;
  const load = (async () => {
    while (!stopped) answers.push(await current.status("named"));
  })();
  assertProblem(await after.status("named"), 401);
  await reload(old, renewed);
  assert.equal((await before.status("named")).status, 200);
  assert.equal((await after.status("named")).status, 200);
  current = after;
  const count = answers.length;
  await eventually(() => answers.length > count + 2);
  await reload(renewed);
  stopped = true;
  await load;
  assert.deepEqual([...new Set(answers.map(({ status }) => status))], [200]);
  assertProblem(await before.status("named"), 401);
  assert.equal((await after.status("named")).status, 200);
});
