/** Each alert of docs/alerts.yml fires by its own cause at a running KME, and none fires at a healthy one. */
import assert from "node:assert/strict";
import { parse } from "yaml";
import { eventually } from "../harness/eventually.ts";
import { makeDeviceNetwork } from "../harness/device_network.ts";
import { startTestDevices } from "../harness/test_device.ts";
import { findProgram, testWith } from "../harness/installed.ts";
import { keyIdsOf } from "../harness/sae_client.ts";
import { damageBits, encryptStore } from "../harness/stored_bits.ts";
import { makeTestNetwork, type NetworkSpec, type TestNetwork } from "../harness/test_network.ts";
import { startUnreadKme } from "../harness/unread_kme.ts";
import { RustKme } from "../inter_kme/rust_kme.ts";
import { makeSmallDisk, smallDiskAvailable } from "../store/full_disk.ts";
import { basicConstraints, crl, forge, keyUsage } from "../x509/forge.ts";
import { firing, RULES, type Scrapes } from "./alert_rules.ts";
import { scrape } from "./scrape.ts";

const PROMTOOL = findProgram("/usr/bin/promtool", "/usr/local/bin/promtool");

const tried = new Set<string>();

/** Registers a test of one alert; `cause` returns the metrics before and after. */
function alertTest(
  alert: string,
  cause: string,
  fn: () => Promise<Scrapes | undefined>,
): void {
  tried.add(alert);
  testWith(PROMTOOL, "prometheus is not installed", `${alert}: ${cause}`, async (promtool) => {
    const scrapes = await fn();
    if (scrapes === undefined) return;
    const healthy = await firing(promtool, { ...scrapes, after: scrapes.before });
    assert.ok(!healthy.has(alert) || alert === "KmeNoNewKeys", "it fires without its cause");
    const found = await firing(promtool, scrapes);
    assert.ok(found.has(alert), `only these fire: ${[...found]}`);
  });
}

const two: NetworkSpec = {
  kmes: [
    {
      id: 1,
      saes: [1, 2],
      console: true,
      options: { neighbour_probe_seconds: 1, max_key_count: 20_000 },
    },
    { id: 2, saes: [3] },
  ],
};

const metrics = async (network: TestNetwork) =>
  await (await fetch(`http://127.0.0.1:${network.kme(1).consolePort}/metrics`)).text();

/** Metrics as soon as they are as they should be. */
async function metricsWith(network: TestNetwork, fits: (samples: ReturnType<typeof scrape>) => boolean) {
  return await eventually(async () => {
    const text = await metrics(network);
    return fits(scrape(text)) && text;
  }, { timeout: 30_000 });
}

const started = async (spec: NetworkSpec, blocks: number) => {
  const network = await makeTestNetwork(spec);
  if (blocks > 0) await network.writeKeyFile(1, 2, blocks);
  const kmes = await network.startAll();
  await metricsWith(network, (samples) => samples.of("kme_peer_up")['kme="2"'] === 1);
  return { network, kmes, [Symbol.asyncDispose]: () => network.remove() };
};

Deno.test("every alert has a test", async () => {
  const { groups } = parse(await Deno.readTextFile(RULES));
  const names = groups.flatMap(({ rules }: { rules: { alert: string }[] }) =>
    rules.map(({ alert }) => alert)
  );
  assert.deepEqual(names.toSorted(), [...tried].sort());
});

testWith(PROMTOOL, "prometheus is not installed", "no alert fires at a healthy KME", async (promtool) => {
  await using site = await started(two, 2000);
  const { network } = site;
  const { json } = await network.client(1).encKeys(3);
  assert.equal((await network.client(3).decKeys(1, json.keys[0].key_ID)).status, 200);
  // Certificates of tests are valid for two days only.
  const full = await metricsWith(
    network,
    (samples) =>
      samples.of("kme_link_free_blocks")['kme="2"'] === 1999 &&
      // Other tests may have kept the machine busy for a moment; what was measured then would last for an hour here.
      samples.value("kme_event_loop_lag_p99_seconds")! < 0.2,
  );
  const text = full.replace(/^kme_certificate_expiry.*\n/gm, "");
  assert.deepEqual([...await firing(promtool, { before: text, after: text, minutes: 59 })], []);
});

alertTest("KmeDown", "the KME is stopped", async () => {
  await using site = await started(two, 0);
  const before = await metrics(site.network);
  await site.kmes[0]!.stop();
  return { before, after: await metrics(site.network).catch(() => undefined), minutes: 3 };
});

alertTest("KmeNotReady", "a key directory is gone", async () => {
  await using site = await started(two, 0);
  const before = await metrics(site.network);
  await Deno.remove(site.network.kme(1).keyDirectories.get("2")!, { recursive: true });
  const after = await metricsWith(site.network, (samples) => samples.value("kme_ready") === 0);
  return { before, after, minutes: 3 };
});

async function useUp(): Promise<Pick<Scrapes, "before" | "after">> {
  await using site = await started(two, 2000);
  const before = await metricsWith(
    site.network,
    (samples) => samples.of("kme_link_free_blocks")['kme="2"'] === 2000,
  );
  for (let i = 0; i < 12; i++) {
    assert.equal((await site.network.client(1).encKeys(3, { number: 128 })).status, 200);
  }
  const after = await metricsWith(
    site.network,
    (samples) => samples.of("kme_link_free_blocks")['kme="2"'] === 2000 - 12 * 128,
  );
  return { before, after };
}

alertTest("KmeStockLow", "most blocks are used", async () => ({ ...await useUp(), minutes: 7 }));

alertTest(
  "KmeStockEmptySoon",
  "blocks are used and none are added",
  async () => ({ ...await useUp(), shape: "ramp", minutes: 45 }),
);

alertTest("KmeOutOfKeys", "an SAE asks at an empty stock", async () => {
  await using site = await started(two, 0);
  const before = await metrics(site.network);
  assert.equal((await site.network.client(1).encKeys(3)).status, 503);
  return { before, after: await metrics(site.network), shape: "repeat", minutes: 5 };
});

alertTest("KmeNoNewKeys", "no key file comes for an hour", async () => {
  await using site = await started(two, 10);
  const before = await metrics(site.network);
  return { before, after: before, minutes: 62 };
});

alertTest("KmePeerDown", "the neighbour is stopped", async () => {
  await using site = await started(two, 0);
  const before = await metrics(site.network);
  await site.kmes[1]!.stop();
  const after = await metricsWith(site.network, (samples) => samples.of("kme_peer_up")['kme="2"'] === 0);
  return { before, after, minutes: 4 };
});

async function slowPeer(): Promise<Scrapes> {
  await using site = await started(two, 20);
  assert.equal((await site.network.client(1).encKeys(3)).status, 200);
  const before = await metrics(site.network);
  site.kmes[1]!.signal("SIGSTOP");
  const answer = site.network.client(1).encKeys(3);
  // The delay is the fault, not a wait for something.
  await new Promise((resolve) => setTimeout(resolve, 1700));
  site.kmes[1]!.signal("SIGCONT");
  assert.equal((await answer).status, 200);
  return { before, after: await metrics(site.network), shape: "repeat", minutes: 20 };
}

if (Deno.build.os !== "windows") {
  alertTest("KmeActivationSlow", "the peer answers after more than a second", slowPeer);
  alertTest("KmeRequestsSlow", "the peer answers after more than a second", slowPeer);
}

alertTest("KmeBlocksBurnt", "a peer that cannot take keys back hangs up", async () => {
  await using network = await makeTestNetwork(two);
  const blockIds = await network.writeKeyFile(1, 2, 600);
  await using rust = await RustKme.start(network, 2, blockIds);
  await network.start(1);
  const before = await metrics(network);
  rust.react = ({ path }) => path === "/keys/activate" ? "hang up" : undefined;
  const after = await eventually(async () => {
    await network.client(1).encKeys(3, { number: 128 });
    const text = await metrics(network);
    const burnt = Object.values(scrape(text).of("kme_blocks_burnt_total")).reduce((a, b) => a + b, 0);
    return burnt > 100 && text;
  }, { timeout: 60_000 });
  return { before, after, minutes: 5 };
});

alertTest("KmeKeysExpire", "a slave does not fetch its keys", async () => {
  const options = { key_lifetime_seconds: 3 };
  await using site = await started({
    kmes: [{ id: 1, saes: [1, 2], console: true, options: { ...options, neighbour_probe_seconds: 1 } }, {
      id: 2,
      saes: [3],
    }],
  }, 0);
  await site.network.writeKeyFile(1, 1, 2000);
  const before = await metricsWith(
    site.network,
    (samples) => samples.of("kme_link_free_blocks")['kme="1"'] === 2000,
  );
  const after = await eventually(async () => {
    assert.ok(keyIdsOf(await site.network.client(1).encKeys(2)).length > 0);
    const text = await metrics(site.network);
    const samples = scrape(text);
    return samples.value("kme_keys_expired_total")! > 0 && samples.value("kme_keys_waiting")! > 0 && text;
  }, { timeout: 120_000, interval: 100 });
  return { before, after, minutes: 5 };
});

alertTest("KmeDatabaseErrors", "the disk of the database is full", async () => {
  const available = smallDiskAvailable();
  await using disk = available.available ? await makeSmallDisk(4) : undefined;
  if (disk === undefined) {
    console.log("    not tried: this system does not let root mount");
    return undefined;
  }
  await using network = await makeTestNetwork({
    kmes: [{ id: 1, saes: [1, 2], console: true, database: `sqlite://${disk.path}/kme.db` }],
  });
  await network.writeKeyFile(1, 1, 2000);
  await network.start(1);
  const before = await metrics(network);
  await disk.fill();
  await eventually(async () => (await network.client(1).encKeys(2, { number: 128 })).status === 503);
  return { before, after: await metrics(network), minutes: 2 };
});

alertTest("KmeStoreDamaged", "stored bits were altered", async () => {
  await using network = await makeTestNetwork({
    kmes: [{ id: 1, saes: [1, 2], console: true, database: "sqlite" }],
  });
  await encryptStore(network, 1);
  await network.writeKeyFile(1, 1, 5);
  const first = await network.start(1);
  await eventually(async () => (await network.client(1).status(2)).json.stored_key_count === 5);
  await first.stop();
  damageBits(network.kme(1), "state = 0");
  await network.start(1);
  const before = await metrics(network);
  assert.equal((await network.client(1).encKeys(2)).status, 503);
  return { before, after: await metrics(network), minutes: 30 };
});

alertTest("KmeAuditLogFailed", "the directory of the audit log is gone", async () => {
  await using site = await started({
    ...two,
    edit: ({ this_kme }, id) => {
      if (id !== "1") return;
      this_kme.audit_log = { directory: `${this_kme.key_directory_to_watch}/audit` };
      Deno.mkdirSync(this_kme.audit_log.directory);
    },
  }, 0);
  const before = await metrics(site.network);
  await Deno.remove(site.network.kme(1).config.this_kme.audit_log.directory, { recursive: true });
  const after = await metricsWith(site.network, (samples) => samples.value("kme_audit_writable") === 0);
  return { before, after, minutes: 2 };
});

alertTest("KmeSaeLimited", "an SAE asks for more than its limit", async () => {
  await using site = await started({
    ...two,
    edit: ({ saes }, kme) => {
      if (kme === "1") saes.find(({ id }) => id === 1)!.max_bits_per_second = 1;
    },
  }, 10);
  const one = site.network.client(1);
  assert.deepEqual([(await one.encKeys(3)).status, (await one.encKeys(3)).status], [200, 503]);
  const before = await metrics(site.network);
  assert.equal((await one.encKeys(3)).status, 503);
  return { before, after: await metrics(site.network), shape: "repeat", minutes: 5 };
});

alertTest("KmeCertificateExpires", "a certificate expires in two days", async () => {
  await using site = await started(two, 0);
  const after = await metrics(site.network);
  return { before: after.replace(/^kme_certificate_expiry.*\n/gm, ""), after, minutes: 2 };
});

alertTest("KmeEntropyLow", "the bytes of a key file are all less than 128", async () => {
  await using site = await started(two, 10);
  const before = await metrics(site.network);
  const bytes = new Uint8Array(32 * 11_000);
  for (let at = 0; at < bytes.length; at += 32_000) crypto.getRandomValues(bytes.subarray(at, at + 32_000));
  await site.network.writeKeyFile(1, 2, bytes.map((byte) => byte & 127));
  const after = await metricsWith(
    site.network,
    (samples) => samples.of("kme_link_free_blocks")['kme="2"'] === 11_010,
  );
  return { before, after, minutes: 2 };
});

alertTest("KmeReloadRefused", "a changed configuration has a mistake", async () => {
  await using site = await started(two, 0);
  const before = await metrics(site.network);
  await site.network.writeConfig(1, (config) => {
    (config.this_kme as unknown as Record<string, unknown>).max_key_count = "many";
  });
  site.kmes[0]!.signal("SIGHUP");
  const refused = 'outcome="refused"';
  const after = await metricsWith(site.network, (samples) => samples.of("kme_reloads_total")[refused] === 1);
  return { before, after, minutes: 5 };
});

alertTest("KmeLinkUnmatched", "a key file comes to one end only", async () => {
  await using site = await started(two, 100);
  const { network } = site;
  const before = await metrics(network);
  const bytes = crypto.getRandomValues(new Uint8Array(320));
  await Deno.writeFile(`${network.keyDirectory(1, 2)}/only-here.cor`, bytes);
  // Seconds are not enough: on a link in use, files come to one end before they come to the other.
  const after = await eventually(async () => {
    const text = await metrics(network);
    const samples = scrape(text);
    const since = samples.of("kme_link_unmatched_since_seconds")['kme="2"']!;
    return samples.of("kme_link_unmatched_blocks")['kme="2"'] === 10 && since > 30 && text;
  }, { timeout: 120_000, interval: 1000 });
  return { before, after, minutes: 1 };
});

alertTest("KmeDeviceGivesNoKeys", "the QKD device at the other end does not answer", async () => {
  await using devices = await startTestDevices();
  await using network = await makeDeviceNetwork({ devices: devices.addresses });
  await Promise.all([network.start(1), network.start(2)]);
  const before = await metricsWith(
    network,
    (samples) =>
      samples.of("kme_link_free_blocks")['kme="2"'] === 200 &&
      samples.of("kme_device_problem")['kme="2"'] === 0,
  );
  devices.misbehave = () => "cut";
  const after = await metricsWith(network, (samples) => samples.of("kme_device_problem")['kme="2"'] === 1);
  return { before, after, minutes: 10 };
});

alertTest("KmeDeviceKeysLost", "the two QKD devices give different keys", async () => {
  await using devices = await startTestDevices();
  await using network = await makeDeviceNetwork({ devices: devices.addresses });
  await network.start(1);
  const before = await metrics(network);
  devices.misbehave = (request, right) => {
    const answer = right();
    if (request.path.endsWith("/dec_keys")) {
      for (const key of answer.json.keys ?? []) {
        key.key = crypto.getRandomValues(new Uint8Array(32)).toBase64();
      }
    }
    return answer;
  };
  await network.start(2);
  const lost = 'kme="2",reason="unconfirmed"';
  const after = await metricsWith(
    network,
    (samples) => samples.of("kme_device_lost_blocks_total")[lost]! > 150,
  );
  return { before, after, minutes: 10 };
});

alertTest("KmeClientsRefused", "a client without a certificate comes", async () => {
  await using network = await makeTestNetwork({ kmes: [{ id: 1, saes: [1, 2], console: true }] });
  await network.start(1);
  const before = await metrics(network);
  using client = network.client(1, { cert: undefined, key: undefined });
  assert.equal((await client.status(2)).status, 401);
  const after = await metricsWith(
    network,
    (samples) => samples.of("kme_tls_refused_clients_total")['listener="sae",reason="no_certificate"'] === 1,
  );
  return { before, after, minutes: 5 };
});

alertTest("KmeCrlUnusable", "the CRL file is overwritten", async () => {
  await using network = await makeTestNetwork({ kmes: [{ id: 1, saes: [1, 2], console: true }] });
  const { directory, zoneCa } = network.kme(1);
  const root = forge({ extensions: [basicConstraints(true), keyUsage(0x06)] });
  await Deno.writeFile(`${directory}/crl`, crl(root));
  await Deno.writeTextFile(`${directory}/saes-ca.pem`, `${zoneCa.ca}${root.pem.cert}`);
  await network.writeConfig(1, (config) => {
    config.this_kme.saes_https_interface.client_crl_path = `${directory}/crl`;
    for (const sae of config.saes) {
      delete sae.https_client_certificate_serial;
      sae.certificates = [{ subject_cn: `SAE ${sae.id}` }];
    }
  });
  await network.start(1);
  const before = await metrics(network);
  await Deno.writeTextFile(`${directory}/crl`, "nonsense");
  const after = await metricsWith(network, (samples) => samples.of("kme_crl_problems")['crl="sae"'] === 1);
  return { before, after, minutes: 5 };
});

alertTest("KmeKeyFilesRefused", "a key file of zeros comes", async () => {
  await using network = await makeTestNetwork({ kmes: [{ id: 1, saes: [1, 2], console: true }] });
  await network.start(1);
  const before = await metrics(network);
  await network.writeKeyFile(1, 1, new Uint8Array(64));
  const after = await metricsWith(
    network,
    (samples) => samples.of("kme_refused_files_total")['kme="1"'] === 1,
  );
  return { before, after, minutes: 5 };
});

alertTest(
  "KmeKeyFilesServedAgain",
  "a database in memory is empty after a restart, the key files are still there",
  async () => {
    await using network = await makeTestNetwork({
      kmes: [{ id: 1, saes: [1, 2], console: true, options: { delete_key_file_after_read: false } }],
    });
    await network.writeKeyFile(1, 1, 3);
    const first = await network.start(1);
    await eventually(async () => (await network.client(1).status(2)).json.stored_key_count === 3);
    const before = await metrics(network);
    await first.stop();
    await network.start(1);
    const after = await metricsWith(
      network,
      (samples) => samples.of("kme_served_again_files")['kme="1"'] === 1,
    );
    return { before, after, minutes: 5 };
  },
);

alertTest("KmeLogLinesDropped", "nothing reads the log", async () => {
  await using network = await makeTestNetwork({ kmes: [{ id: 1, saes: [1, 2], console: true }] });
  const blocks = 15_000;
  await network.writeKeyFile(1, 1, blocks);
  using _unread = startUnreadKme(network.kme(1).configPath);
  const client = network.client(1);
  await eventually(async () => (await client.status(2)).json.stored_key_count === blocks, {
    timeout: 60_000,
  });
  const before = await metrics(network);
  for (let i = 0; i < blocks / 120; i++) {
    assert.equal((await client.encKeys(2, { number: 120 })).status, 200);
  }
  return { before, after: await metrics(network), minutes: 3 };
});

if (Deno.build.os !== "windows") {
  alertTest("KmeEventLoopSlow", "the process gets no processor time", async () => {
    await using site = await started(two, 0);
    await metrics(site.network);
    const before = await metrics(site.network);
    const after = await eventually(async () => {
      site.kmes[0]!.signal("SIGSTOP");
      await new Promise((resolve) => setTimeout(resolve, 500));
      site.kmes[0]!.signal("SIGCONT");
      const text = await metrics(site.network);
      return scrape(text).value("kme_event_loop_lag_p99_seconds")! > 0.2 && text;
    }, { interval: 0 });
    return { before, after, minutes: 15 };
  });
}
