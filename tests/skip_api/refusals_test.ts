/** What the SKIP interface refuses: every error of the protocol, and what hostile clients send. */
import assert from "node:assert/strict";
import { readToEnd, SaeClient } from "../harness/sae_client.ts";
import { allIngested } from "../harness/key_files.ts";
import { makeTestNetwork } from "../harness/test_network.ts";
import { makeTestCa } from "../harness/test_certificates.ts";
import { assertProblem, startNetwork, stockOf } from "../sae_api/api_fixture.ts";
import { SkipClient, skipKeyOf, twoSkipKmes } from "./skip_fixture.ts";

const UNKNOWN = "00".repeat(16);

Deno.test("SKIP answers each mistake with its status and a message", async () => {
  await using network = await startNetwork(twoSkipKmes, [1, 2, 10]);
  const client = new SkipClient(network, 1);
  const cases: [status: number, path: string, message: RegExp][] = [
    [400, "/key", /^remoteSystemID: is missing/],
    [400, "/key?remoteSystemID=", /^remoteSystemID: SAE "" is unknown/],
    [400, "/key?remoteSystemID=99", /^remoteSystemID: SAE "99" is unknown/],
    [400, "/key?remotesystemid=3", /^remotesystemid: is not a parameter/],
    [400, "/key?remoteSystemID=2", /SAE of this KME/],
    [400, "/key?remoteSystemID=1", /SAE of this KME/],
    [400, "/key?remoteSystemID=3&remoteSystemID=5", /more than once/],
    [400, "/key?remoteSystemID=3&size=128&size=256", /more than once/],
    [400, "/key?remoteSystemID=3&size=", /^size: is not a number/],
    [400, "/key?remoteSystemID=3&size=abc", /^size: is not a number/],
    [400, "/key?remoteSystemID=3&size=-128", /^size: is not a number/],
    [400, "/key?remoteSystemID=3&size=1e2", /^size: is not a number/],
    [400, "/key?remoteSystemID=3&size=0", /^size/],
    [400, "/key?remoteSystemID=3&size=100", /multiple of 8/],
    [400, "/key?remoteSystemID=3&size=999999992", /^size/],
    [400, `/key?remoteSystemID=3&size=${"9".repeat(400)}`, /^size: is not a number/],
    [400, "/key?remoteSystemID=3%00", /unknown/],
    [400, "/key?remoteSystemID=%zz", /unknown/],
    [400, `/key?remoteSystemID=${"x".repeat(4000)}`, /unknown/],
    [400, `/key/${UNKNOWN}`, /^remoteSystemID: is missing/],
    [400, `/key/${UNKNOWN}?remoteSystemID=99`, /^remoteSystemID: SAE "99" is unknown/],
    [400, `/key/${UNKNOWN}?remoteSystemID=3`, /not found/],
    [400, "/key/123?remoteSystemID=3", /^keyId: is not 32 hexadecimal digits/],
    [400, `/key/${"z".repeat(32)}?remoteSystemID=3`, /^keyId/],
    [400, `/key/${UNKNOWN}00?remoteSystemID=3`, /^keyId/],
    [400, `/key/${"0".repeat(4000)}?remoteSystemID=3`, /^keyId/],
    [400, "/key/%ff?remoteSystemID=3", /^keyId/],
    [400, "/entropy?minentropy=0", /^minentropy: 1 to 65536 bits/],
    [400, "/entropy?minentropy=65537", /^minentropy: 1 to 65536 bits/],
    [400, "/entropy?minentropy=x", /^minentropy: is not a number/],
    [404, "/", /no such resource/],
    [404, "/keys", /no such resource/],
    [404, `/key/${UNKNOWN}/x`, /no such resource/],
    [404, "/api/v1/keys/3/enc_keys", /no such resource/],
  ];
  const before = await stockOf(network.client(1), 3);
  for (const [status, path, message] of cases) {
    assertProblem(await client.get(path), status, message);
  }
  for (
    const path of ["/capabilities", "/key?remoteSystemID=3", `/key/${UNKNOWN}?remoteSystemID=3`, "/entropy"]
  ) {
    for (const method of ["POST", "PUT", "DELETE", "OPTIONS"]) {
      const response = await client.raw(method, path);
      assertProblem(response, 405, /is not allowed here/);
      assert.equal(response.headers.allow, "GET");
    }
    assert.equal((await client.raw("HEAD", path)).status, 405);
  }
  assertProblem(await client.raw("GET", "/key?remoteSystemID=3", "{}"), 400, /takes no body/);
  assert.equal(await stockOf(network.client(1), 3), before);

  await network.processes[1]!.kill();
  assertProblem(await client.newKey(3), 503, undefined);
  assert.equal((await client.get("/capabilities")).status, 200);
  const metrics = await (await fetch(`http://127.0.0.1:${network.kme(1).consolePort}/metrics`)).text();
  for (const [status, reason] of [[400, "invalid"], [404, "http"], [405, "http"], [503, "peer"]]) {
    const line =
      `^kme_requests_refused_total\\{listener="skip",status="${status}",reason="${reason}"\\} [1-9]`;
    assert.match(metrics, new RegExp(line, "m"));
  }
  await network.processes[0]!.waitForLine(
    /the SKIP interface refused a request of SAE 1: GET \/key: 503 peer/,
  );
});

Deno.test("the SKIP interface is for the SAEs of its KME only", async () => {
  await using network = await startNetwork(twoSkipKmes, [1, 2, 10]);
  const { skipPort, zoneCa } = network.kme(1);
  const as = ({ cert, key }: { cert?: string; key?: string }) =>
    new SaeClient({ port: skipPort, ca: zoneCa.ca, cert, key, agent: false });
  const none = as({});
  assertProblem(await none.raw({ path: "/capabilities" }), 401, /^no client certificate/);
  const otherCa = await (await makeTestCa("another CA")).client({ commonName: "SAE 1" });
  const otherZone = network.sae(3);
  const otherKme = network.kme(2).interKmeClient;
  for (const stranger of [otherCa, otherZone, otherKme]) {
    assertProblem(await as(stranger).raw({ path: "/key?remoteSystemID=3" }), 401);
  }
  // A certificate of the right CA that belongs to no SAE learns nothing of what there is.
  const unknown = as(await network.issueClient(1));
  for (const path of ["/capabilities", "/key?remoteSystemID=3", "/entropy", "/nothing"]) {
    assertProblem(await unknown.raw({ path }), 401, /belongs to no SAE of this KME/);
    assertProblem(await unknown.raw({ method: "POST", path }), 401);
  }
  const metrics = await (await fetch(`http://127.0.0.1:${network.kme(1).consolePort}/metrics`)).text();
  assert.match(metrics, /^kme_tls_refused_clients_total\{listener="skip",reason="no_certificate"\} [1-9]/m);
});

Deno.test("the limits of an SAE hold for SKIP too", async () => {
  await using network = await makeTestNetwork({
    ...twoSkipKmes,
    edit: ({ saes }, kme) => {
      if (kme === "1") {
        Object.assign(saes.find(({ id }) => id === 1)!, { may_reach: [5], max_bits_per_second: 8 });
      }
    },
  });
  await network.writeKeyFile(1, 2, 10);
  await network.startAll();
  for (const kme of [1, 2]) await allIngested(network.kme(kme).keyDirectories.values());
  const client = new SkipClient(network, 1);
  assert.deepEqual((await client.get("/capabilities")).json.remoteSystemID, ["5"]);
  assertProblem(await client.newKey(3), 401);
  skipKeyOf(await client.newKey(5));
  const limited = await client.newKey(5);
  assertProblem(limited, 503);
  assert.match(String(limited.headers["retry-after"]), /^\d+$/);
});

Deno.test("clients that close after each request, and requests as SKIP clients write them", async () => {
  await using network = await startNetwork(twoSkipKmes, [1, 2, 10]);
  const client = new SkipClient(network, 1);
  const closing = await client.get("/key?remoteSystemID=3", { Connection: "close" });
  skipKeyOf(closing);
  assert.equal(closing.headers.connection, "close");

  // Two requests at once on one connection, and bytes that are not HTTP.
  const { skipPort } = network.kme(1);
  const pipelined = await network.client(1, { port: skipPort }).openSocket({});
  const answers = readToEnd(pipelined);
  const get = (path: string, more = "") => `GET ${path} HTTP/1.1\r\nHost: KP_A\r\n${more}\r\n`;
  pipelined.write(get("/capabilities") + get("/entropy", "Connection: close\r\n"));
  assert.equal((await answers).match(/^HTTP\/1\.1 200/gm)?.length, 2);
  const nonsense = await network.client(1, { port: skipPort }).openSocket({});
  const refused = readToEnd(nonsense);
  nonsense.write("\0\0\0\0 nonsense\r\n\r\n");
  assert.doesNotMatch(await refused, /HTTP\/1\.1 200/);
  assert.equal((await client.get("/capabilities")).status, 200);
});
