/**
 * Shows the main function: makes a network of two KMEs in a temporary directory, starts them as processes, and sends a
 * key from SAE 1 to SAE 3 and one back. `--keep` leaves them running and prints commands to try. With `--devices` their link gets
 * its keys from a pair of QKD devices, which are two more KMEs, instead of key files.
 */
import { join } from "node:path";
import { makeNetwork } from "../certs/make_network.ts";
import type { MadeKme } from "../certs/made.ts";
import { writeSampleKeys } from "../sample_keys.ts";
import { makeDevicePair, useDevice } from "./device_pair.ts";
import { DemoSae } from "./sae.ts";
import { errorMessage } from "../../domain/text.ts";
import { platform } from "../../platform.ts";

const SAMPLE_BLOCKS = 1000;

interface DemoOptions {
  readonly keep: boolean;
  readonly devices: boolean;
}

async function main(options: DemoOptions): Promise<number> {
  const directory = await Deno.makeTempDir({ prefix: "kme-demo-" });
  try {
    return await runIn(directory, options);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

async function runIn(directory: string, { keep, devices }: DemoOptions): Promise<number> {
  const ports = freePorts(10);
  const hosts = ["127.0.0.1"];
  const kme = (id: number, nickname: string, saes: number[]) => {
    const [sae, interKme, console] = ports.splice(0, 3);
    return {
      port: sae!,
      console: `http://127.0.0.1:${console}`,
      file: {
        id,
        nickname,
        saes_interface: { hosts, port: sae! },
        kmes_interface: { hosts, port: interKme! },
        debugging_http_interface: `127.0.0.1:${console}`,
        saes: saes.map((id) => ({ id })),
      },
    };
  };
  const [one, two] = [kme(1, "Alice", [1, 2]), kme(2, "Bob", [3])];
  const made = await makeNetwork(
    { organization: "TEST ONLY", kmes: [one.file, two.file] },
    directory,
    { configs: true },
  );
  const [madeOne, madeTwo] = [made.kmes.get("1")!, made.kmes.get("2")!];
  const link = devices ? [] : [["kme-1-2", "kme-2-1"]];
  for (const names of [["kme-1-1"], ...link, ["kme-2-2"]]) {
    await writeSampleKeys(names.map((name) => join(directory, "raw_keys", name)), { blocks: SAMPLE_BLOCKS });
  }
  const kmes: RunningKme[] = [];
  if (devices) {
    const [a, b, c, d] = ports as [number, number, number, number];
    const pair = await makeDevicePair(
      join(directory, "devices"),
      [{ sae: a, interKme: b }, { sae: c, interKme: d }],
      SAMPLE_BLOCKS,
    );
    await useDevice(madeOne.config!, pair.sources[0]!);
    await useDevice(madeTwo.config!, pair.sources[1]!);
    kmes.push(...pair.configs.map(startKme));
    await Promise.all(kmes.map((device) => device.ready));
    console.log(
      `Two KMEs in ${directory}, and two more as a pair of QKD devices with ${SAMPLE_BLOCKS} sample blocks (not quantum).`,
    );
  } else {
    console.log(`Two KMEs in ${directory}, with ${SAMPLE_BLOCKS} sample blocks (not quantum) for each link.`);
  }
  kmes.push(startKme(madeOne.config!), startKme(madeTwo.config!));
  const alice = sae("1", madeOne, one.port);
  const bob = sae("3", madeTwo, two.port);
  const stop = stopSignal();
  try {
    const ready = Promise.all(kmes.map((kme) => kme.ready)).then(() => true);
    if (!await Promise.race([ready, stop.then(() => false)])) return 1;
    console.log("Both KMEs are ready: KME 1 (Alice) serves SAEs 1 and 2, KME 2 (Bob) serves SAE 3.\n");
    await firstStock(alice, "3");
    await firstStock(bob, "1");
    if (devices) {
      console.log(
        "KME 1 has requested keys from its device, and KME 2 has fetched the same ones from the other device:",
      );
      const [here, there] = [await alice.stock("3"), await bob.stock("1")];
      console.log(`  stock of the link      ${here} blocks at KME 1, ${there} at KME 2\n`);
    }
    const agree = await sendKey(alice, bob) && await sendKey(bob, alice);
    if (keep && agree) {
      printCommands(alice, bob, [one.console, two.console]);
      await Promise.race([stop, ...kmes.map((kme) => kme.exited)]);
      return 0;
    }
    return agree ? 0 : 1;
  } finally {
    alice.close();
    bob.close();
    await Promise.all(kmes.map((kme) => kme.stop()));
  }
}

/** Ports that no program listens on now, below those that systems take for outgoing connections. */
function freePorts(count: number): number[] {
  const listeners: Deno.Listener[] = [];
  const start = 5000 + Math.floor(Math.random() * 4000);
  for (let port = start; listeners.length < count; port++) {
    try {
      listeners.push(Deno.listen({ hostname: "127.0.0.1", port }));
    } catch (error) {
      if (!(error instanceof Deno.errors.AddrInUse || error instanceof Deno.errors.PermissionDenied)) {
        throw error;
      }
    }
  }
  const ports = listeners.map(({ addr }) => (addr as Deno.NetAddr).port);
  for (const listener of listeners) listener.close();
  return ports;
}

function sae(id: string, kme: MadeKme, port: number): DemoSae {
  const { crt, key } = kme.saes.get(id)!;
  return new DemoSae({ id, base: `https://127.0.0.1:${port}`, ca: kme.saesCa.crt, cert: crt, key });
}

async function sendKey(master: DemoSae, slave: DemoSae): Promise<boolean> {
  const before = [await master.stock(slave.id), await slave.stock(master.id)];
  const begin = performance.now();
  const sent = await master.encKey(slave.id);
  const asked = performance.now();
  const received = await slave.decKey(master.id, sent.keyId);
  const end = performance.now();
  const after = [await master.stock(slave.id), await slave.stock(master.id)];
  const agree = sent.fingerprint === received.fingerprint && sent.keyId === received.keyId;
  console.log(`A key from SAE ${master.id} to SAE ${slave.id}
  key_ID                  ${sent.keyId}
  fingerprint at SAE ${master.id}    ${sent.fingerprint}   (enc_keys, ${ms(asked - begin)})
  fingerprint at SAE ${slave.id}    ${received.fingerprint}   (dec_keys, ${ms(end - asked)})
  the bits agree          ${agree ? "yes" : "NO"}
  stock, SAE ${master.id}'s KME      ${before[0]} -> ${after[0]}
  stock, SAE ${slave.id}'s KME      ${before[1]} -> ${after[1]}
`);
  return agree;
}

/** Sample keys are ingested within about a second of the start. */
async function firstStock(sae: DemoSae, slave: string): Promise<void> {
  for (let attempt = 0; attempt < 150; attempt++) {
    if (await sae.stock(slave) > 0) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`no keys are in stock for SAE ${sae.id}`);
}

function printCommands(alice: DemoSae, bob: DemoSae, consoles: readonly string[]): void {
  console.log(`Both KMEs keep running until Ctrl-C. Their consoles, for a browser:

  ${consoles.join("\n  ")}

Commands to try in another terminal:

  # as SAE 1: what is in stock, then a key for SAE 3
  ${alice.curl("3/status")}
  ${alice.curl("3/enc_keys")}

  # as SAE 3: the same key, once, by the key_ID that SAE 1 got
  ${bob.curl("1/dec_keys?key_ID=...")}
`);
}

/** Resolves with the first signal that asks to stop. */
function stopSignal(): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of platform.stopSignals) Deno.addSignalListener(signal, resolve);
  });
}

interface RunningKme {
  /** Rejects when the KME ends before it is ready. */
  readonly ready: Promise<void>;
  readonly exited: Promise<void>;
  stop(): Promise<void>;
}

function startKme(config: string): RunningKme {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", new URL("../../main.ts", import.meta.url).href, "start", config],
    // While both start, each cannot reach the other yet; a KME that stays away makes the demo fail.
    env: { LOG_LEVEL: Deno.env.get("LOG_LEVEL") ?? "info,inter_kme=error" },
    stdin: "null",
    stdout: "inherit",
    stderr: "piped",
  }).spawn();
  const ready = Promise.withResolvers<void>();
  const output = follow(child.stderr, (line) => {
    if (/\bready\b/.test(line)) ready.resolve();
    console.error(line);
  });
  const exited = child.status.then(async ({ code }) => {
    await output;
    ready.reject(new Error(`the KME of ${config} ended with exit code ${code}`));
  });
  // Reported where it is awaited.
  ready.promise.catch(() => {});
  return {
    ready: ready.promise,
    exited,
    async stop() {
      try {
        child.kill("SIGTERM");
      } catch {
        // It has ended already.
      }
      await exited;
    },
  };
}

async function follow(stream: ReadableStream<Uint8Array>, onLine: (line: string) => void): Promise<void> {
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    for (const line of lines) onLine(line);
  }
  if (rest !== "") onLine(rest);
}

function ms(duration: number): string {
  return `${duration.toFixed(1)} ms`;
}

if (import.meta.main) {
  try {
    Deno.exit(await main({ keep: Deno.args.includes("--keep"), devices: Deno.args.includes("--devices") }));
  } catch (error) {
    console.error(`The demo failed: ${errorMessage(error)}`);
    Deno.exit(1);
  }
}
