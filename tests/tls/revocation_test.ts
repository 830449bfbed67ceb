/** Revoked clients of a listener, by a file of CRLs that changes. */
import assert from "node:assert/strict";
import { parseCertificate } from "../../src/x509/certificate.ts";
import { CrlFile, type CrlInForce, type CrlStatus } from "../../src/tls/crl_file.ts";
import type { RefusedClient } from "../../src/tls/client_refusal.ts";
import type { Front } from "../../src/tls/front.ts";
import { eventually } from "../harness/eventually.ts";
import { makeTempDir } from "../harness/temp_dir.ts";
import { basicConstraints, bytes, CLIENT, crl, forge, keyUsage, pemOf, usage } from "../x509/forge.ts";
import { ask, get, resumingClient, secure, until, withFront } from "./front_harness.ts";

const GET = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
const root = forge({ commonName: "CA R (for tests)", extensions: [basicConstraints(true), keyUsage(0x06)] });
const issueClient = (commonName: string, serial: number) =>
  forge({
    commonName,
    issuer: root,
    serial: bytes(serial),
    extensions: [basicConstraints(false), usage(CLIENT)],
  })
    .pem;
const [mallory, carol] = [issueClient("mallory (for tests)", 0x66), issueClient("carol (for tests)", 0x0c)];
/** None of the CRLs is older than another one. */
const thisUpdate = new Date(Date.now() - 86_400_000);
const revoking = crl(root, { thisUpdate, serials: [bytes(0x66)] });
const empty = crl(root, { thisUpdate });

async function withCrl(
  content: Uint8Array,
  test: (parts: {
    front: Front;
    port: number;
    refused: RefusedClient[];
    statuses: CrlStatus[];
    path: string;
    /** Replaces the file in one step. */
    put: (content: Uint8Array | string) => Promise<void>;
  }) => Promise<void>,
) {
  await using directory = await makeTempDir();
  const path = `${directory.path}/crl`;
  const put = async (content: Uint8Array | string) => {
    const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
    await Deno.writeFile(`${path}.new`, bytes);
    await Deno.rename(`${path}.new`, path);
  };
  await put(content);
  const statuses: CrlStatus[] = [];
  const refused: RefusedClient[] = [];
  const file = new CrlFile({ path, name: "test", onStatus: (status) => void statuses.push(status) });
  try {
    await withFront({
      clientCa: root.pem.cert,
      revocations: (authorities) => file.revocations(authorities),
      onRefused: (client) => void refused.push(client),
    }, async (front, port) => {
      file.watch(() => front.revocationsChanged());
      await test({ front, port, refused, statuses, path, put });
    });
  } finally {
    file.close();
  }
}

Deno.test("a client that is revoked from the start gets 401 with the reason, others keys", () =>
  withCrl(revoking, async ({ port, refused }) => {
    const answer = await ask(port, mallory);
    assert.equal(answer?.status, 401);
    assert.match(JSON.parse(answer!.body).message, /^CN=mallory \(for tests\) is revoked; issue a new one$/);
    assert.deepEqual(refused.map(({ reason }) => reason), ["revoked"]);
    assert.equal(await get(port, carol), "c");
  }));

Deno.test("a file that changes: open connections of a revoked client are closed within 5 s, sessions open nothing", () =>
  withCrl(empty, async ({ port, put, front }) => {
    using resuming = resumingClient({ ...mallory } as never);
    assert.equal(await resuming.get(port), "66");
    const [idle, busy, other] = [
      await secure(port, mallory),
      await secure(port, mallory),
      await secure(port, carol),
    ];
    for (const wire of [idle, busy, other]) {
      wire.send(GET);
      await wire.expect(/\r\n\r\n(66|c)$/);
    }
    busy.send("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nab");
    const changed = performance.now();
    await put(revoking);
    await Promise.all([idle.whenClosed, busy.whenClosed]);
    assert.ok(performance.now() - changed < 5000);
    assert.equal(other.closed, false);
    assert.equal(await get(port, mallory), undefined);
    assert.equal(await resuming.get(port), undefined);
    assert.equal(await get(port, carol), "c");
    // The other way: a certificate that was on hold.
    await put(empty);
    await until(() => front.connections <= 1, "the connections are gone");
    for (let i = 0; i < 50 && await get(port, mallory) === undefined; i++) {
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    assert.equal(await get(port, mallory), "66");
    other.socket.destroy();
  }));

Deno.test("whatever becomes of the file, the last usable CRL stays in force, and the problem is reported", () =>
  withCrl(revoking, async ({ port, put, path, statuses }) => {
    const latest = () => statuses.at(-1)!.problems.map(({ kind }) => kind);
    assert.deepEqual(latest(), []);
    const forged = { subject: root.subject, key: forge().key };
    for (
      const [content, kind] of [
        ["half a", "unreadable"],
        [crl(forged), "not_of_ca"],
        [crl(root, { thisUpdate: new Date(thisUpdate.getTime() - 1000) }), "older"],
      ] as const
    ) {
      await put(content);
      await until(() => latest()[0] === kind, kind);
      assert.equal(await get(port, mallory), undefined, kind);
    }
    await Deno.remove(path);
    await until(() => /cannot be read/.test(statuses.at(-1)!.problems[0]?.message ?? ""), "it is gone");
    assert.equal(await get(port, mallory), undefined);
    await put(pemOf("X509 CRL", revoking));
    await until(() => latest().length === 0, "it is in order");
    assert.equal(await get(port, mallory), undefined);
    assert.equal(await get(port, carol), "c");
  }));

Deno.test("a CRL in force that cannot be stored is a problem, and is stored as soon as that works", async () => {
  await using directory = await makeTempDir();
  const path = `${directory.path}/crl`;
  await Deno.writeFile(path, revoking);
  const ca = parseCertificate(root.der);
  const kept: CrlInForce[] = [];
  const kinds: string[][] = [];
  let full = true;
  const keep = (crl: CrlInForce) => {
    if (full) return Promise.reject(new Error("the database is full"));
    kept.push(crl);
    return Promise.resolve();
  };
  const file = new CrlFile({
    path,
    name: "test",
    keeping: { kept: [], keep },
    onStatus: ({ problems }) => void kinds.push(problems.map(({ kind }) => kind)),
  });
  try {
    file.revocations([ca]);
    file.watch(() => {});
    await eventually(() => kinds.at(-1)?.[0] === "not_kept");
    full = false;
    await eventually(() => kinds.at(-1)?.length === 0);
    assert.deepEqual(kept.map(({ ca, der }) => [ca, der.toHex()]), [[
      ca.fingerprint,
      Uint8Array.from(revoking).toHex(),
    ]]);
  } finally {
    file.close();
  }
});
