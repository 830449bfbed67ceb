/** Queries the status of a running KME. */
import http from "node:http";
import { type KmeStatus, kmeStatusSchema } from "../metrics/kme_status.ts";
import { explain } from "../inter_kme/connect.ts";
import { formatHostPort, type HostPort } from "../domain/address.ts";

const TIME_LIMIT_MS = 5000;

/** Characters of an answer: far more than any KME sends. */
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

/** The address at which a listener on all addresses is reached on this machine. */
export function reachable({ hostname, port }: HostPort): HostPort {
  if (hostname === "0.0.0.0") return { hostname: "127.0.0.1", port };
  return { hostname: hostname === "::" ? "::1" : hostname, port };
}

/** Direct: a proxy of the machine is not used. */
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
      () => request.destroy(new Error(`no answer within ${TIME_LIMIT_MS / 1000} s`)),
      TIME_LIMIT_MS,
    );
    request.on("error", reject);
    request.on("close", () => clearTimeout(timer));
  });
}
