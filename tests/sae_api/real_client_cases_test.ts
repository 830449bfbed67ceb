/**
 * What clients, devices, operators and other KMEs were found to do, in their sources, manuals and issue threads, and which test
 * shows what this program does then. The last test checks that these tests exist, as well as the lines of documents.
 */
import assert from "node:assert/strict";
import { PROJECT_ROOT } from "../harness/kme_process.ts";

/** A file of `tests/` and part of a test's name, or a file of `docs/` and part of a line. */
type Proof = readonly [file: string, text: string];

interface Case {
  readonly what: string;
  readonly proofs: readonly Proof[];
}

const ON_BOX: Proof = ["sae_api/real_clients_test.ts", "Juniper's on-box automation"];
const OLDER: Proof = ["sae_api/real_clients_test.ts", "Juniper's older automation"];
const ARNIKA: Proof = ["sae_api/real_clients_test.ts", "arnika: number and size in the URL of a POST"];
const ROUTER_OS: Proof = [
  "sae_api/real_clients_test.ts",
  "MikroTik RouterOS: several POSTs on one connection",
];
const SIZES: Proof = ["sae_api/real_clients_test.ts", "keys of 8, 24, 1024 and 65,536 bits"];
const PROBES: Proof = ["sae_api/real_clients_test.ts", "probes: any Accept is answered with JSON"];
const LIMITS: Proof = ["sae_api/real_clients_test.ts", "a limit that is exceeded is named"];
const SELECTORS: Proof = ["sae_api/selectors_test.ts", "an SAE is identified by each kind of selector"];
const RENEWED: Proof = ["sae_api/selectors_test.ts", "a certificate is renewed without downtime"];
const KEYS_OF_CLIENTS: Proof = ["divergences.md", "client keys on P-256, P-384, P-521, Ed25519, and RSA"];

const REQUESTS: Record<string, Case> = {
  A1: { what: "enc_keys?key_size=256", proofs: [ON_BOX] },
  A2: { what: "dec_keys?key_ID=…&key_size=256", proofs: [ON_BOX] },
  A3: { what: "number=1&size=128", proofs: [OLDER] },
  A4: { what: "additional slaves, one key at three SAEs", proofs: [OLDER] },
  A5: { what: "size=24", proofs: [SIZES] },
  A6: { what: "POST with parameters in the URL and an empty object", proofs: [ARNIKA] },
  A7: { what: "GET with a body is 400", proofs: [ARNIKA, ["divergences.md", "a GET with a body is 400"]] },
  A8: { what: "key_IDs as objects, and as texts", proofs: [ARNIKA] },
  A9: { what: "compact JSON", proofs: [ARNIKA] },
  A10: { what: "five POSTs on one connection, Host without port", proofs: [ROUTER_OS] },
  A11: { what: "a size of 64, in bits", proofs: [ROUTER_OS] },
  A12: {
    what: "the name in the server's certificate is the KME's id",
    proofs: [["tools/certs/make_network_test.ts", "a server's certificate has the KME's id as CN"]],
  },
  A13: {
    what: "a URL with an address, without port and path",
    proofs: [["sae_api/real_clients_test.ts", "Junos: a URL with an address"], [
      "kme.service",
      "CAP_NET_BIND_SERVICE",
    ]],
  },
  A14: { what: "ids of 291 characters", proofs: [["sae_api/real_clients_test.ts", "FortiOS: ids of 291"]] },
  A15: {
    what: "an id that looks like an integer",
    proofs: [["sae_api/real_clients_test.ts", "an id that looks like an integer"]],
  },
  A16: { what: "an id that is a UUID", proofs: [["sae_api/real_clients_test.ts", "Senetas"]] },
  A17: { what: "case of key_IDs", proofs: [["sae_api/real_clients_test.ts", "rmw_axon"]] },
  A18: { what: "null members", proofs: [["sae_api/real_clients_test.ts", "clients with serializers"]] },
  A19: { what: "POST without a body", proofs: [["sae_api/real_clients_test.ts", "Cosmian KMS and others"]] },
  A20: {
    what: "a new connection for each request",
    proofs: [["sae_api/real_clients_test.ts", "a new connection for each request"]],
  },
  A21: {
    what: "a connection that was idle for minutes",
    proofs: [
      ["tls/deadlines_test.ts", "an idle connection is closed after its own time"],
      ["tls/deadlines_test.ts", "a request that is sent as its idle connection is closed"],
      ["divergences.md", "how long a connection may be idle"],
    ],
  },
  A22: { what: "Accept of any kind", proofs: [PROBES] },
  A23: { what: "doubled slashes", proofs: [PROBES] },
  A24: {
    what: "ids with other characters",
    proofs: [["sae_api/routes_test.ts", "ids in URLs are percent-encoded, once"], [
      "sae_api/ids_test.ts",
      "ids of any form reach the other KME",
    ]],
  },
  A25: {
    what: "a member twice",
    proofs: [["sae_api/requests_test.ts", "a member that comes twice in an object"]],
  },
  A26: { what: "numbers as text, 1.0 and 1e0", proofs: [LIMITS] },
  A27: {
    what: "as many keys as allowed, and more",
    proofs: [LIMITS, ["sae_api/keys_test.ts", "await master.encKeys(3, { number: 128 })"]],
  },
  A28: { what: "sizes of 8 and 65,536", proofs: [SIZES] },
  A29: { what: "a size of 1024", proofs: [SIZES] },
  A30: {
    what: "a batch with another pair's key",
    proofs: [["sae_api/real_clients_test.ts", "a batch with a key of another pair"]],
  },
  A31: {
    what: "headers that name an SAE",
    proofs: [["sae_api/real_clients_test.ts", "headers that name another SAE"]],
  },
  A32: {
    what: "a lost answer",
    proofs: [["sae_api/repeat_test.ts", "a key is given again to the same SAE"], [
      "divergences.md",
      "an answer that is lost on its way",
    ]],
  },
  A33: {
    what: "dec_keys ten minutes after enc_keys",
    proofs: [["store/clock_test.ts", "no key expires early"], [
      "divergences.md",
      "`key_lifetime_seconds`, a day by default",
    ]],
  },
};

const CERTIFICATES: Record<string, Case> = {
  B1: {
    what: "a peer's certificate of version 1",
    proofs: [["inter_kme/impostor_test.ts", "version 1 by anyone, in the name of the CA"]],
  },
  B2: {
    what: "a peer's certificate that is badly encoded",
    proofs: [["inter_kme/impostor_test.ts", "certificates that are badly encoded"]],
  },
  B3: {
    what: "an SAE's certificate of version 1",
    proofs: [
      ["tls/refused_clients_test.ts", "certificates that TLS itself cannot parse"],
      ["tls/refused_clients_test.ts", "the log has who, why and what to do"],
    ],
  },
  B4: { what: "a renewed certificate with a new serial", proofs: [RENEWED] },
  B5: { what: "old and new certificate at once", proofs: [RENEWED] },
  B6: { what: "only the names are known beforehand", proofs: [SELECTORS] },
  B7: {
    what: "no client certificate",
    proofs: [["tls/refused_clients_test.ts", "each refused client gets 401 with the reason"]],
  },
  B8: { what: "curl of macOS", proofs: [["clients.md", "Secure Transport"]] },
  B9: {
    what: "Windows, TLS 1.2 only",
    proofs: [["sae_api/identity_test.ts", "TLS 1.2 and TLS 1.3 are both served"], [
      "clients.md",
      "schannel",
    ]],
  },
  B10: {
    what: "suites without ECDHE and GCM",
    proofs: [
      ["tls/client_keys_test.ts", "clients that offer only RSA key exchange or CBC"],
      ["data-protection.md", "`ECDHE-ECDSA-` and `ECDHE-RSA-`"],
    ],
  },
  B11: {
    what: "extended key usage",
    proofs: [["x509/verifier_test.ts", "certificates for servers, of CAs"]],
  },
  B12: {
    what: "intermediate CAs",
    proofs: [["tls/client_verification_test.ts", "intermediates from the file or from the client"]],
  },
  B13: {
    what: "P-521, Ed25519, RSA and RSA-PSS keys",
    proofs: [["tls/client_keys_test.ts", "a client whose key is"], KEYS_OF_CLIENTS],
  },
  B14: {
    what: "a revoked certificate",
    proofs: [["tls/revocation_test.ts", "open connections of a revoked client are closed within 5 s"]],
  },
  B15: {
    what: "the same serial of two CAs",
    proofs: [["sae_api/selectors_test.ts", "with two CAs a serial number counts"]],
  },
  B16: {
    what: "a server certificate that expires",
    proofs: [["metrics/alerts_test.ts", "KmeCertificateExpires"], [
      "reload/reload_test.ts",
      "a server certificate is renewed for new connections",
    ]],
  },
};

const OPERATION: Record<string, Case> = {
  C1: {
    what: "a key directory within another one's",
    proofs: [["ingest/arrival_test.ts", "a directory within another one's"]],
  },
  C2: { what: "5,000 files at once", proofs: [["ingest/arrival_test.ts", "5,000 files"]] },
  C3: {
    what: "a directory without events",
    proofs: [["ingest/arrival_test.ts", "a scan finds what no event told"], [
      "ingest/arrival_test.ts",
      "without a watcher the scan does",
    ]],
  },
  C4: {
    what: "odd files",
    proofs: [
      ["ingest/odd_files_test.ts", "an empty file"],
      ["ingest/odd_files_test.ts", "rests of 1 and 31 bytes"],
      ["ingest/odd_files_test.ts", "an unreadable file"],
      ["ingest/arrival_test.ts", "a symbolic link is refused"],
      ["ingest/room_test.ts", "a big file is read in batches"],
      ["ingest/once_test.ts", "truncated or vanishes while it is read"],
    ],
  },
  C5: {
    what: "the same file twice",
    proofs: [["ingest/once_test.ts", "the same keys under another name"], [
      "durability/reimport_test.ts",
      "appear again give no block twice",
    ]],
  },
  C6: {
    what: "files at one end only, or in another order",
    proofs: [
      ["inter_kme/stock_agreement_test.ts", "one file of three is missing at one end"],
      ["inter_kme/stock_agreement_test.ts", "in its own order"],
      ["metrics/alerts_test.ts", "KmeLinkUnmatched"],
    ],
  },
  C7: {
    what: "dec_keys at the wrong KME",
    proofs: [["sae_api/real_clients_test.ts", "a router that asks the wrong KME"]],
  },
  C8: {
    what: "fewer keys in stock than requested",
    proofs: [["sae_api/stock_test.ts", "fewer keys in stock than requested is 503"], [
      "sae_api/stock_test.ts",
      "stock never exceeds max_key_count",
    ]],
  },
  C9: { what: "SIGKILL under load", proofs: [["durability/kill_test.ts", "SIGKILL at random moments"]] },
  C10: {
    what: "the database goes away, or closes idle connections",
    proofs: [["durability/database_outage_test.ts", "the server is killed, and stopped, and started"], [
      "store/kme_outage_test.ts",
      "connections that the server closes are replaced",
    ]],
  },
  C11: {
    what: "a full disk, or one that cannot be written",
    proofs: [["store/full_disk_test.ts", "a KME whose disk is full answers 503"], [
      "store/full_disk_test.ts",
      "mounted read-only does not start",
    ]],
  },
  C12: {
    what: "the end of a KME with its database in a thread",
    proofs: [["release/binary_test.ts", "the database is in a thread of its own"]],
  },
  C13: {
    what: "the compiled program without Deno",
    proofs: [["release/compile_test.ts", "the program, its own SQLite addon"]],
  },
  C14: {
    what: "certificate and key are not renewed in one step",
    proofs: [["reload/reload_test.ts", "a new server certificate without its key"]],
  },
  C15: {
    what: "kept connections between KMEs that broke unnoticed",
    proofs: [["inter_kme/channel_test.ts", "all kept connections stale at once"]],
  },
  C16: {
    what: "clocks that differ",
    proofs: [["inter_kme/impostor_test.ts", "names, uses and dates"], [
      "check/peers_test.ts",
      "other answers",
    ]],
  },
  C17: {
    what: "both ends are masters at once",
    proofs: [["inter_kme/both_ends_test.ts", "200 requests from both ends share 200 keys"]],
  },
  C18: {
    what: "a peer that is down and comes back, and an answer before the client gives up",
    proofs: [["inter_kme/channel_test.ts", "do not wait for the whole time limit"], [
      "delivery/network_failures_test.ts",
      "no SAE gets a key and the stocks are restored",
    ]],
  },
  C19: {
    what: "a KME on the way that is down",
    proofs: [["delivery/network_failures_test.ts", "the error for a KME that is down names its id"], [
      "delivery/network_failures_test.ts",
      "behind two relays",
    ]],
  },
  C20: {
    what: "health without a certificate",
    proofs: [["cli/command_line_test.ts", "kme health is 0 for a ready KME"], [
      "console/http_test.ts",
      "ready needs a running program",
    ]],
  },
};

Deno.test("each of these cases is covered by a test that exists, or a line of a document says why not", async () => {
  const numbers = (letter: string, count: number) =>
    Array.from({ length: count }, (_, i) => `${letter}${i + 1}`);
  assert.deepEqual(Object.keys(REQUESTS), numbers("A", 33));
  assert.deepEqual(Object.keys(CERTIFICATES), numbers("B", 16));
  assert.deepEqual(Object.keys(OPERATION), numbers("C", 20));
  const texts = new Map<string, string>();
  for (const [id, { what, proofs }] of Object.entries({ ...REQUESTS, ...CERTIFICATES, ...OPERATION })) {
    assert.ok(proofs.length > 0, id);
    for (const [file, text] of proofs) {
      const path = `${PROJECT_ROOT}${file.endsWith("_test.ts") ? "tests" : "docs"}/${file}`;
      if (!texts.has(path)) texts.set(path, await Deno.readTextFile(path));
      assert.ok(texts.get(path)!.includes(text), `${id} (${what}): ${file} has no "${text}"`);
    }
  }
});
