/**
 * The main job, shown: starts the two sample KMEs as processes, sends a key from SAE 1 to SAE 3 and one back.
 * `--keep` leaves them running and prints commands to try.
 */
import { writeSampleKeys } from "../sample_keys.ts";
import { DemoSae } from "./sae.ts";
import { errorMessage } from "../../domain/text.ts";

const LINKS = [["raw_keys/kme-1-1"], ["raw_keys/kme-1-2", "raw_keys/kme-2-1"], ["raw_keys/kme-2-2"]];
const SAMPLE_BLOCKS = 1000;

async function main(keep: boolean): Promise<number> {
  for (const directories of LINKS) await makeSampleKeys(directories);

  const kmes = [startKme("config_kme1.json5"), startKme("config_kme2.json5")];
  const alice = new DemoSae({
    id: "1",
    base: "https://127.0.0.1:13000",
    ca: "certs/kme-1-local-zone/ca.crt",
    cert: "certs/kme-1-local-zone/client_1.crt",
    key: "certs/kme-1-local-zone/client_1.key",
  });
  const bob = new DemoSae({
    id: "3",
    base: "https://127.0.0.1:14000",
    ca: "certs/kme-2-local-zone/ca.crt",
    cert: "certs/kme-2-local-zone/client_3.crt",
    key: "certs/kme-2-local-zone/client_3.key",
  });
  try {
    await Promise.all(kmes.map((kme) => kme.ready));
    console.log("Both KMEs are ready: KME 1 (Alice) serves SAEs 1 and 2, KME 2 (Bob) serves SAE 3.\n");
    await firstStock(alice, "3");
    await firstStock(bob, "1");
    const agree = await sendKey(alice, bob) && await sendKey(bob, alice);
    if (keep && agree) {
      await keepRunning(alice, bob, kmes);
      return 0;
    }
    return agree ? 0 : 1;
  } finally {
    alice.close();
    bob.close();
    await Promise.all(kmes.map((kme) => kme.stop()));
  }
}

async function makeSampleKeys(directories: readonly string[]): Promise<void> {
  for (const directory of directories) {
    await Deno.mkdir(directory, { recursive: true });
    for await (const entry of Deno.readDir(directory)) if (entry.name.endsWith(".cor")) return;
  }
  await writeSampleKeys(directories, { blocks: SAMPLE_BLOCKS });
  console.log(`Made ${SAMPLE_BLOCKS} sample blocks (not quantum) in ${directories.join(" and ")}.`);
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

/** Sample keys are taken up within a second or so of the start. */
async function firstStock(sae: DemoSae, slave: string): Promise<void> {
  for (let attempt = 0; attempt < 150; attempt++) {
    if (await sae.stock(slave) > 0) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`no keys are in stock for SAE ${sae.id}: are there key files of the link in raw_keys/?`);
}

async function keepRunning(alice: DemoSae, bob: DemoSae, kmes: readonly RunningKme[]): Promise<void> {
  console.log(`Both KMEs keep running until Ctrl-C. Try, in another terminal in this directory:

  # as SAE 1: what is in stock, then a key for SAE 3
  ${alice.curl("3/status")}
  ${alice.curl("3/enc_keys")}

  # as SAE 3: the same key, by the key_ID that SAE 1 got; once
  ${bob.curl("1/dec_keys?key_ID=...")}
`);
  const interrupted = new Promise<void>((resolve) => {
    Deno.addSignalListener("SIGINT", resolve);
    if (Deno.build.os !== "windows") Deno.addSignalListener("SIGTERM", resolve);
  });
  await Promise.race([interrupted, ...kmes.map((kme) => kme.exited)]);
}

interface RunningKme {
  /** Rejects when the KME ends before it is ready. */
  readonly ready: Promise<void>;
  readonly exited: Promise<void>;
  stop(): Promise<void>;
}

function startKme(config: string): RunningKme {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", new URL("../../main.ts", import.meta.url).href, config],
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
  ready.promise.catch(() => {}); // reported by whoever awaits it
  return {
    ready: ready.promise,
    exited,
    async stop() {
      try {
        child.kill("SIGTERM");
      } catch {
        // It has ended by itself.
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
    Deno.exit(await main(Deno.args.includes("--keep")));
  } catch (error) {
    console.error(`The demonstration failed: ${errorMessage(error)}`);
    Deno.exit(1);
  }
}
