/** The main axes, all in memory, against bare servers behind the same front. */
import { freePorts } from "../harness/free_port.ts";
import { load, serve } from "./load_process.ts";
import { POOL, TIMES } from "./options.ts";
import type { Row } from "./row.ts";
import { compare, compareCpu, interleave, type Target } from "./comparison.ts";
import { EVENTS_OFF, type Request, Site } from "./site.ts";

const STATUS = { way: "status", slave: "local" } as const;

export async function memory(): Promise<Row[]> {
  await using site = await Site.make([":memory:", ":memory:"]);
  await using silent = await Site.make([":memory:", ":memory:"], { env: EVENTS_OFF });
  const [basePort, ceilingPort, closingPort] = freePorts(3) as [number, number, number];
  const { ca_client_cert_path, server_cert_path, server_key_path } =
    site.network.kme("1").config.this_kme.saes_https_interface;
  const files = [ca_client_cert_path, server_cert_path, server_key_path];

  const bare = (name: string, script: string, ports: number[], port: number, handshakes = false): Target => ({
    name,
    run: async () => {
      await using server = await serve(script, [...ports.map(String), ...files]);
      const job = site.job([STATUS], TIMES);
      return await load({ ...job, port, kinds: [{ path: "/constant", handshakes }], pids: [server.pid] });
    },
  });
  const baseline = (name: string, handshakes?: boolean) =>
    bare(name, "baseline_server.ts", [basePort], basePort, handshakes);
  const plain = (name: string, port: number, handshakes?: boolean) =>
    bare(name, "tls_server.ts", [ceilingPort, closingPort], port, handshakes);
  /** @param stock so large that it is the time that ends a run. */
  const kme = (name: string, request: Request, stock = POOL, at = site): Target => ({
    name,
    keys: request.keys,
    run: () => at.runAfresh(request, TIMES, stock),
  });

  const results = await interleave([
    plain("generator", ceilingPort),
    baseline("baseline"),
    kme("status", STATUS),
    kme("one KME", { way: "enc", slave: "local" }),
    kme("one KME, events off", { way: "enc", slave: "local" }, POOL, silent),
    kme("one KME, then dec_keys", { way: "enc+dec", slave: "local" }),
    kme("two KMEs", { way: "enc", slave: "remote" }),
    kme("two KMEs, then dec_keys", { way: "enc+dec", slave: "remote" }),
    kme("10 keys", { way: "enc", slave: "local", keys: 10 }, 2 * POOL),
    kme("128 keys", { way: "enc", slave: "local", keys: 128 }, 4 * POOL),
    plain("handshakes, bare", closingPort, true),
    baseline("handshakes, front", true),
    kme("handshakes", { ...STATUS, handshakes: true }),
    kme("handshakes, enc_keys", { way: "enc", slave: "local", handshakes: true }),
  ]);
  const row = compare(results);
  const handshakeCpu = compareCpu(
    results,
    "a handshake and one status, the server's processor time against bare node:tls",
    "handshakes",
    "handshakes, bare",
    { atMost: 1.35 },
  );
  return [
    row("load generator's ceiling against the baseline", "requests/s", "generator", "baseline"),
    row("status against the baseline", "requests/s", "status", "baseline", { atLeast: 0.8 }),
    row("enc_keys, one KME, :memory:, against the baseline", "requests/s", "one KME", "baseline", {
      atLeast: 0.5,
    }),
    row(
      "enc_keys, one KME, :memory:, events logged against not logged",
      "requests/s",
      "one KME",
      "one KME, events off",
      { atLeast: 0.95 },
    ),
    row(
      "enc_keys then dec_keys, one KME, against enc_keys alone",
      "pairs/s",
      "one KME, then dec_keys",
      "one KME",
      { atLeast: 0.5 },
    ),
    row("enc_keys over two KMEs, both :memory:, against one KME", "requests/s", "two KMEs", "one KME", {
      atLeast: 0.45,
    }),
    row(
      "enc_keys then dec_keys over two KMEs against one KME",
      "pairs/s",
      "two KMEs, then dec_keys",
      "one KME, then dec_keys",
    ),
    row("10 keys in one request against one key a request", "keys/s", "10 keys", "one KME"),
    row("128 keys in one request against one key a request", "keys/s", "128 keys", "one KME", {
      atLeast: 10,
    }),
    row(
      "load generator's ceiling with a handshake per request (bare node:tls) against the front alone",
      "requests/s",
      "handshakes, bare",
      "handshakes, front",
    ),
    row(
      "a handshake per request, status, against bare node:tls",
      "requests/s",
      "handshakes",
      "handshakes, bare",
      { atLeast: 0.9 },
    ),
    ...handshakeCpu === undefined ? [] : [handshakeCpu],
    row(
      "a handshake per request, status, against the front alone",
      "requests/s",
      "handshakes",
      "handshakes, front",
    ),
    row(
      "a handshake per request, enc_keys, against bare node:tls",
      "requests/s",
      "handshakes, enc_keys",
      "handshakes, bare",
    ),
  ];
}
