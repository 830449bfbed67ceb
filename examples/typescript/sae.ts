/**
 * A small SAE (ETSI GS QKD 014 V1.1.1) for Deno and Node.js, without packages.
 *
 *     deno run -A sae.ts get SLAVE_SAE_ID              requests a new key and prints its key_ID, to be sent to the slave
 *     deno run -A sae.ts fetch MASTER_SAE_ID KEY_ID    gets the key that the master has requested
 *     node sae.ts ...                                  the same, from Node.js 22.18; for older ones compile it with tsc
 *
 * KME_URL, SAE_CERT, SAE_KEY and KME_CA say which KME, and with which PEM files. Exit codes: 0 done, 1 refused, 3 the key is lost.
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import https from "node:https";
import process from "node:process";

const TRIES = 5;
const MAX_WAIT_SECONDS = 30;
const TIMEOUT_MS = 30_000;

interface Key {
  readonly keyId: string;
  readonly bits: Uint8Array;
}

interface Answer {
  readonly status: number;
  readonly retryAfter: string | undefined;
  readonly body: string;
}

/** The key was handed out, but its answer did not arrive: the master has to request another key. */
class KeyLost extends Error {}

/** No answer; `sent`: the KME may have got the request. */
class NoAnswer extends Error {
  readonly sent: boolean;
  constructor(cause: Error, sent: boolean) {
    super(cause.message);
    this.sent = sent;
  }
}

class Sae {
  readonly #base: string;
  readonly #credentials: { cert: Buffer; key: Buffer; ca: Buffer };

  constructor(url: string, cert: string, key: string, ca: string) {
    this.#base = `${url.replace(/\/+$/, "")}/api/v1/keys/`;
    this.#credentials = { cert: readFileSync(cert), key: readFileSync(key), ca: readFileSync(ca) };
  }

  /** A new key to share with the slave. Its key_ID is not secret. */
  get(slave: string): Promise<Key> {
    // If an answer is lost, its key expires at the KMEs. Nobody knows its key_ID, so another one can be requested.
    return this.#key(`${encodeURIComponent(slave)}/enc_keys?number=1&size=256`, false);
  }

  /** The key that the master has requested, once. */
  fetch(master: string, keyId: string): Promise<Key> {
    return this.#key(`${encodeURIComponent(master)}/dec_keys?key_ID=${encodeURIComponent(keyId)}`, true);
  }

  async #key(path: string, readsOnce: boolean): Promise<Key> {
    let wait = 1;
    let lost = false;
    let problem = "";
    for (let attempt = 0; attempt < TRIES; attempt++) {
      if (attempt > 0) {
        await new Promise((resolve) => setTimeout(resolve, 1000 * wait));
        wait = Math.min(2 * wait, MAX_WAIT_SECONDS);
      }
      let answer: Answer;
      try {
        answer = await this.#request(path);
      } catch (error) {
        if (!(error instanceof NoAnswer)) throw error;
        // The request may have arrived. A KME that remembers its answers gives the same key again.
        lost ||= error.sent;
        problem = error.message;
        continue;
      }
      if (answer.status === 200) {
        const [key] = JSON.parse(answer.body).keys;
        return { keyId: key.key_ID, bits: Buffer.from(key.key, "base64") };
      }
      problem = `the KME answers ${answer.status}: ${messageOf(answer.body)}`;
      if (answer.status === 503) {
        // No keys in stock, or the other KME is away: nothing was used up.
        if (/^\d+$/.test(answer.retryAfter ?? "")) {
          wait = Math.min(Number(answer.retryAfter), MAX_WAIT_SECONDS);
        }
        continue;
      }
      if (lost && readsOnce && answer.status === 400) {
        throw new KeyLost("the answer with the key was lost; ask the master for another key");
      }
      throw new Error(problem);
    }
    throw new Error(`no key after ${TRIES} tries: ${problem}`);
  }

  #request(path: string): Promise<Answer> {
    return new Promise((resolve, reject) => {
      let sent = false;
      const fail = (error: Error) => {
        // Another try makes no difference to a server that is not trusted.
        const untrusted = /certificate|altnames|issuer/i.test(error.message);
        reject(untrusted ? error : new NoAnswer(error, sent));
      };
      const options = { ...this.#credentials, agent: false, timeout: TIMEOUT_MS };
      const request = https.get(this.#base + path, options, (response) => {
        let body = "";
        response.setEncoding("utf8");
        response.on("data", (part: string) => body += part);
        response.on("error", fail);
        response.on("close", () => fail(new Error("the connection was cut")));
        response.on(
          "end",
          () => resolve({ status: response.statusCode!, retryAfter: response.headers["retry-after"], body }),
        );
      });
      request.on("socket", (socket) => socket.once("secureConnect", () => sent = true));
      request.on("timeout", () => request.destroy(new Error("no answer")));
      request.on("error", fail);
    });
  }
}

function messageOf(body: string): string {
  try {
    return String(JSON.parse(body).message);
  } catch {
    return "no message";
  }
}

const [action, peer, keyId] = process.argv.slice(2);
const { KME_URL = "", SAE_CERT = "", SAE_KEY = "", KME_CA = "" } = process.env;
try {
  const sae = new Sae(KME_URL, SAE_CERT, SAE_KEY, KME_CA);
  let key: Key;
  if (action === "get" && peer !== undefined) key = await sae.get(peer);
  else if (action === "fetch" && peer !== undefined && keyId !== undefined) {
    key = await sae.fetch(peer, keyId);
  } else throw new Error("usage: sae.ts get SLAVE_SAE_ID | sae.ts fetch MASTER_SAE_ID KEY_ID");
  // Here the key would be used. A fingerprint shows that both ends have the same one.
  console.log(key.keyId);
  console.error("fingerprint", createHash("sha256").update(key.bits).digest("hex").slice(0, 16));
} catch (error) {
  console.error((error as Error).message);
  process.exit(error instanceof KeyLost ? 3 : 1);
}
