/** Asks a running KME how it is. */
import http from "node:http";
import { type KmeStatus, kmeStatusSchema } from "../metrics/kme_status.ts";
import { explain } from "../inter_kme/connect.ts";
import { formatHostPort, type HostPort } from "../domain/address.ts";

const PATIENCE_MS = 5000;

/** Characters of an answer: far more than a KME of any size says. */
const MAX_LENGTH = 16 * 1024 * 1024;

/**
 * @param listen address of its console as configured.
 * @throws Error with one line.
 */
export async function askStatus(listen: HostPort): Promise<KmeStatus> {
  const address = formatHostPort(reachable(listen));
  let text: string;
  try {
    text = await get(reachable(listen));
  } catch (error) {
    throw new Error(`no KME answers at http://${address}/status (${explain(error)})`);
  }
  try {
    return kmeStatusSchema.parse(JSON.parse(text));
  } catch {
    throw new Error(`what answers at http://${address}/status is not a KME of this version`);
  }
}

/** Where a listener on all addresses is called on this machine. */
export function reachable({ hostname, port }: HostPort): HostPort {
  if (hostname === "0.0.0.0") return { hostname: "127.0.0.1", port };
  return { hostname: hostname === "::" ? "::1" : hostname, port };
}

/** Directly: a proxy that the machine is set up with has no part in it. */
function get({ hostname, port }: HostPort): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = http.get({ host: hostname, port, path: "/status", agent: false }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (part: string) => {
        text += part;
        if (text.length > MAX_LENGTH) request.destroy(new Error("too long an answer"));
      });
      response.on("error", reject);
      response.on("end", () => {
        if (response.statusCode === 200) resolve(text);
        else reject(new Error(`status ${response.statusCode}`));
      });
    });
    const timer = setTimeout(
      () => request.destroy(new Error(`not within ${PATIENCE_MS / 1000} s`)),
      PATIENCE_MS,
    );
    request.on("error", reject);
    request.on("close", () => clearTimeout(timer));
  });
}
