/** `kme sae`: asks a KME as an SAE does. */
import { command, InputError, UsageError } from "./command.ts";
import { printMessage } from "./stderr.ts";
import { errorMessage, escapeControlCharacters } from "../domain/text.ts";
import type { Parsed } from "../domain/parsed.ts";
import type { SaeClient, SaeKey } from "../tools/sae_client.ts";

const ACTIONS = ["status", "get", "fetch"] as const;

export const saeCommand = command({
  name: "sae",
  summary: "ask any ETSI GS QKD 014 KME as an SAE, for trying it out",
  usage: "status|get|fetch SAE [KEY_ID]... --url URL --cert FILE [OPTION]...",
  description: [
    "kme sae status SAE prints what a KME can deliver for that slave SAE; kme sae get SAE requests new keys to share with it; " +
    "kme sae fetch SAE KEY_ID... gets the keys that the master SAE has requested. It works with every KME that has the interface of " +
    "ETSI GS QKD 014 V1.1.1.",
    "get and fetch use up keys. They print JSON with the key_ID, the size and a fingerprint of each key (the first 16 digits of its " +
    "SHA-256), which shows whether two keys are the same. The key itself is only written where --raw or --hex asks for it.",
  ],
  operand: { name: "ACTION SAE KEY_ID", what: "action", many: true, actions: ACTIONS, complete: [] },
  options: {
    url: { value: "URL", description: "the SAE interface of the KME, like https://kme.example:13000" },
    cert: { value: "FILE", description: "certificate of the SAE (PEM)" },
    key: { value: "FILE", description: "its private key (PEM); default: in the file of --cert" },
    ca: {
      value: "FILE",
      description: "CA certificate of the KME's server (PEM); default: those of the operating system",
    },
    number: { value: "N", description: "get: number of keys" },
    size: { value: "BITS", description: "get: size of each key" },
    raw: {
      value: "FILE",
      description: "write the bytes of the one key to a new file that only its owner may read",
    },
    hex: { description: "print the keys, in hexadecimal, one a line; the key_IDs go to stderr" },
  },
  exitCodes: {
    0: "done",
    1: "the KME cannot be reached or answers with an error, or a file cannot be written",
    2: "wrong command line, or a certificate or key that cannot be used",
  },
  async run(values, [action, sae, ...keyIds]) {
    const { raw, hex } = values;
    if (!ACTIONS.some((known) => known === action)) {
      throw new UsageError(`unknown action ${action}; use status, get or fetch`);
    }
    if (sae === undefined) {
      throw new UsageError(`the id of the ${action === "fetch" ? "master" : "slave"} SAE is missing`);
    }
    if (action === "fetch" && keyIds.length === 0) throw new UsageError("the key_ID is missing");
    if (action !== "fetch" && keyIds.length > 0) throw new UsageError(`unexpected argument ${keyIds[0]}`);
    if (action !== "get" && (values.number ?? values.size) !== undefined) {
      throw new UsageError("--number and --size belong to get");
    }
    if (action === "status" && (raw !== undefined || hex)) {
      throw new UsageError("--raw and --hex belong to get and fetch");
    }
    if (raw !== undefined && hex) throw new UsageError("--raw and --hex cannot be combined");
    const number = wholeNumber("--number", values.number);
    const size = wholeNumber("--size", values.size);
    if (raw !== undefined && Math.max(number ?? 1, keyIds.length) > 1) {
      throw new UsageError("--raw writes one key; ask for one, or use --hex");
    }
    const client = await openClient(values);
    try {
      if (action === "status") {
        printJson(await client.status(sae));
        return 0;
      }
      const ask = () =>
        action === "get" ? client.getKeys(sae, { number, size }) : client.getKeysWithIds(sae, keyIds);
      if (raw !== undefined) printJson(await described(await writeKey(raw, ask)));
      else if (hex) printHex(await ask());
      else printJson(await described(await ask()));
      return 0;
    } catch (error) {
      throw new Error(await explain(error, action !== "status"), { cause: error });
    } finally {
      client.close();
    }
  },
});

type Values = Readonly<Record<"url" | "cert" | "key" | "ca", string | undefined>>;

async function openClient({ url, cert, key, ca }: Values): Promise<SaeClient> {
  if (url === undefined) throw new UsageError("--url URL is missing");
  if (!URL.canParse(url) || !/^https:[^?#@]*$/.test(url)) {
    throw new UsageError(`--url must be like https://kme.example:13000, not ${url}`);
  }
  if (cert === undefined) throw new UsageError("--cert FILE is missing");
  const { belongTogether, parseCertificates, parsePrivateKey } = await import("../x509/certificate_files.ts");
  const certificate = read("--cert", cert, parseCertificates);
  const keyOption = key === undefined ? "--cert" : "--key";
  const privateKey = read(keyOption, key ?? cert, parsePrivateKey);
  if (!belongTogether(certificate.certificates, privateKey.key)) {
    throw new InputError([
      `${keyOption}: ${key ?? cert}: the private key does not belong to the certificate`,
    ]);
  }
  const authorities = ca === undefined ? undefined : read("--ca", ca, parseCertificates).pem;
  const { SaeClient } = await import("../tools/sae_client.ts");
  const base = new URL(url);
  // A base that names the interface already is as good.
  base.pathname = base.pathname.replace(/\/api\/v1(\/keys)?\/*$/, "");
  return new SaeClient({ base, cert: certificate.pem, key: privateKey.pem, ca: authorities });
}

/** @throws InputError */
function read<T>(option: string, path: string, parse: (bytes: Uint8Array) => Parsed<T>): T {
  let bytes;
  try {
    bytes = Deno.readFileSync(path);
  } catch (error) {
    throw new InputError([`${option}: ${path}: ${errorMessage(error)}`]);
  }
  const parsed = parse(bytes);
  if ("problem" in parsed) throw new InputError([`${option}: ${path}: ${parsed.problem}`]);
  return parsed.value;
}

function wholeNumber(option: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (!/^[0-9]{1,9}$/.test(text)) throw new UsageError(`${option} must be a whole number, not ${text}`);
  return Number(text);
}

/** The file is created before the key is requested: a key that cannot be written would be lost. */
async function writeKey(path: string, ask: () => Promise<SaeKey[]>): Promise<SaeKey[]> {
  const { open } = await import("node:fs/promises");
  let file;
  try {
    file = await open(path, "wx", 0o600);
  } catch (error) {
    const isThere = (error as { code?: string }).code === "EEXIST";
    throw new Error(`${path}: ${isThere ? "exists already and is not overwritten" : errorMessage(error)}`);
  }
  try {
    const keys = await ask();
    if (keys.length !== 1) throw new Error(`the KME answers with ${keys.length} keys, not one`);
    try {
      await file.writeFile(keys[0]!.bits);
      await file.sync();
    } catch (error) {
      throw new Error(`${path}: ${errorMessage(error)}; the key ${keys[0]!.keyId} is used up and lost`);
    }
    return keys;
  } catch (error) {
    await Deno.remove(path).catch(() => {});
    throw error;
  } finally {
    await file.close();
  }
}

async function explain(error: unknown, usesUpKeys: boolean): Promise<string> {
  const { NoAnswer } = await import("../tools/sae_client.ts");
  const lost = error instanceof NoAnswer && error.sent && usesUpKeys
    ? "; the KME may have got the request, and then the key is used up"
    : "";
  return `${errorMessage(error)}${lost}`;
}

async function described(keys: readonly SaeKey[]) {
  const { keyFingerprint } = await import("../tools/key_fingerprint.ts");
  return {
    keys: keys.map(({ keyId, bits }) => ({
      key_ID: keyId,
      size: 8 * bits.length,
      sha256: keyFingerprint(bits),
    })),
  };
}

/** What comes from a KME is made safe to print. */
function printJson(value: unknown): void {
  console.log(JSON.stringify(value, null, 2).split("\n").map(escapeControlCharacters).join("\n"));
}

function printHex(keys: readonly SaeKey[]): void {
  for (const { keyId, bits } of keys) {
    printMessage(`key_ID ${escapeControlCharacters(keyId)}`, "info");
    console.log(bits.toHex());
  }
}
