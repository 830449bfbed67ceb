/** Reads the master key of the stored keys: from a file, or from the output of a command. */
import { join } from "node:path";
import type { StoreEncryption } from "../../config/config.ts";
import { StoreUnusable } from "../../domain/store_errors.ts";
import { errorMessage, toOneLine } from "../../domain/text.ts";
import { platform } from "../../platform.ts";
import { KEY_BYTES } from "./aead.ts";

/** Milliseconds that a key command may take. */
export const KEY_COMMAND_LIMIT_MS = 30_000;

/** Bytes that are read of a key file or of a command's output; base64 of a key has 44. */
const MAX_BYTES = 4096;

/** Where systemd puts the credentials of a unit. */
const CREDENTIALS = "CREDENTIALS_DIRECTORY";

/**
 * Reads the key: 32 bytes as they are, or as 64 hexadecimal digits, or in base64.
 *
 * @throws StoreUnusable with one line, which contains nothing of the key.
 */
export async function readMasterKey(
  source: StoreEncryption,
  limit = KEY_COMMAND_LIMIT_MS,
): Promise<Uint8Array> {
  const [bytes, where] = source.kind === "file"
    ? [await readKeyFile(source.path), `key_file ${JSON.stringify(source.path)}`]
    : [await runKeyCommand(source.command, limit), `key_command ${JSON.stringify(source.command[0])}`];
  try {
    return parseMasterKey(bytes) ?? unusable(
      where,
      `has ${bytes.length} bytes that are not a key; it must be 32 bytes, raw, as 64 hexadecimal digits or in base64`,
    );
  } finally {
    bytes.fill(0);
  }
}

/** The 32 bytes of a key; `undefined` if it is something else. White space around a text does not matter. */
export function parseMasterKey(bytes: Uint8Array): Uint8Array | undefined {
  // Before anything else: 32 random bytes may be a text too.
  if (bytes.length === KEY_BYTES) return Uint8Array.from(bytes);
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes).trim();
  } catch {
    return undefined;
  }
  if (/^[0-9a-f]{64}$/i.test(text)) return Uint8Array.fromHex(text);
  return /^[A-Za-z0-9+/]{43}=?$/.test(text) || /^[A-Za-z0-9_-]{43}=?$/.test(text)
    ? Uint8Array.fromBase64(text.replaceAll("-", "+").replaceAll("_", "/"))
    : undefined;
}

async function readKeyFile(written: string): Promise<Uint8Array> {
  const path = inCredentials(written);
  try {
    using file = await Deno.open(path);
    const { isFile, mode } = await file.stat();
    // A group may read: systemd shows so the right that it gives to the user of the unit alone.
    if (isFile && platform.hasFileModes && mode !== null && (mode & 0o027) !== 0) {
      return unusable(
        `key_file ${JSON.stringify(written)}`,
        `may be read by all users, or written by others (mode ${
          (mode & 0o777).toString(8)
        }); run chmod 600 on it`,
      );
    }
    return await readAll(file.readable);
  } catch (error) {
    if (error instanceof StoreUnusable) throw error;
    return unusable(`key_file ${JSON.stringify(written)}`, `cannot be read: ${errorMessage(error)}`);
  }
}

/** The path with the directory of systemd's credentials in place of a leading `$CREDENTIALS_DIRECTORY`. */
function inCredentials(path: string): string {
  const name = new RegExp(`^\\$(?:${CREDENTIALS}|\\{${CREDENTIALS}\\})/(.+)$`).exec(path)?.[1];
  if (name === undefined) return path;
  const directory = Deno.env.get(CREDENTIALS);
  return directory === undefined || directory === ""
    ? unusable(
      `key_file ${JSON.stringify(path)}`,
      `cannot be found: ${CREDENTIALS} is not set; systemd sets it for a unit with LoadCredential=`,
    )
    : join(directory, name);
}

async function runKeyCommand([program, ...args]: readonly string[], limit: number): Promise<Uint8Array> {
  const where = `key_command ${JSON.stringify(program)}`;
  const signal = AbortSignal.timeout(limit);
  let child: Deno.ChildProcess;
  try {
    child = new Deno.Command(program!, { args, stdin: "null", stdout: "piped", stderr: "piped" }).spawn();
  } catch (error) {
    return unusable(where, `cannot be run: ${errorMessage(error)}`);
  }
  // Its children may keep its output open after its end, so the limit is not left to its end.
  const ended = new Promise<never>((_, reject) =>
    signal.addEventListener("abort", () => {
      try {
        child.kill("SIGKILL");
      } catch {
        // It has ended already.
      }
      reject(new StoreUnusable(line(where, `did not end within ${limit / 1000} s`)));
    })
  );
  const work = Promise.all([readAll(child.stdout), readAll(child.stderr), child.status]);
  work.catch(() => {});
  const [output, errors, { success, code }] = await Promise.race([work, ended]).catch((error) => {
    if (error instanceof StoreUnusable) throw error;
    return unusable(where, `failed: ${errorMessage(error)}`);
  });
  if (success) return output;
  output.fill(0);
  // What the command says of its failure, not its output.
  const said = toOneLine(new TextDecoder().decode(errors).trim()).slice(0, 200);
  return unusable(where, `failed with exit code ${code}${said === "" ? "" : `: ${said}`}`);
}

/** At most {@linkcode MAX_BYTES}: more is not a key, whatever follows. */
async function readAll(stream: ReadableStream<Uint8Array>): Promise<Uint8Array> {
  const bytes = new Uint8Array(MAX_BYTES);
  let length = 0;
  for await (const part of stream) {
    const taken = part.subarray(0, MAX_BYTES - length);
    bytes.set(taken, length);
    length += taken.length;
    part.fill(0);
    if (length === MAX_BYTES) break;
  }
  const read = bytes.slice(0, length);
  bytes.fill(0);
  return read;
}

function unusable(where: string, problem: string): never {
  throw new StoreUnusable(line(where, problem));
}

function line(where: string, problem: string): string {
  return `this_kme.store_encryption: ${where} ${problem}`;
}
