/** Checks that the addresses of the listeners are free, or used by this KME. */
import { X509Certificate } from "node:crypto";
import tls from "node:tls";
import type { Config, HttpsInterface } from "../config/config.ts";
import { httpsInterfacesOf } from "../config/https_interfaces.ts";
import { askStatus, consoleUrl, reachable } from "../console/status_client.ts";
import { type CheckLine, environmentError, ok, warn } from "./check_line.ts";
import { formatHostPort, type HostPort } from "../domain/address.ts";
import { errorMessage } from "../domain/text.ts";

/** Milliseconds for the process that has the port to show its certificate. */
const TIME_LIMIT_MS = 3000;

export async function checkListeners({ thisKme }: Config): Promise<CheckLine[]> {
  const lines: CheckLine[] = [];
  for (const { member, material } of httpsInterfacesOf(thisKme)) {
    lines.push(await checkHttps(`${member}.listen_address`, material));
  }
  if (thisKme.consoleInterface !== undefined) {
    lines.push(await checkConsole(thisKme.id.text, thisKme.consoleInterface));
  }
  return lines;
}

/** Whether a KME with this id or with the certificates of this configuration answers at one of its addresses. */
export async function isRunning({ thisKme }: Pick<Config, "thisKme">): Promise<boolean> {
  const { consoleInterface } = thisKme;
  const answers = await Promise.all([
    ...httpsInterfacesOf(thisKme).map(async ({ material: { listen, serverCert } }) =>
      (await certificateAt(listen))?.raw.equals(new X509Certificate(serverCert).raw) ?? false
    ),
    consoleInterface !== undefined && isKmeAt(thisKme.id.text, consoleInterface),
  ]);
  return answers.includes(true);
}

async function checkHttps(member: string, { listen, serverCert }: HttpsInterface): Promise<CheckLine> {
  const state = tryListen(listen);
  if (state !== "in use") return lineOf(member, listen, state);
  const shown = await certificateAt(listen);
  if (shown === undefined) return taken(member, listen);
  if (shown.raw.equals(new X509Certificate(serverCert).raw)) {
    return ok(member, `${formatHostPort(listen)} is in use by a running KME with this certificate`);
  }
  return warn(
    member,
    `${formatHostPort(listen)} is in use by a server with another certificate`,
    "if it is this KME, send it SIGHUP so that it loads the new certificate; if not, choose another port",
  );
}

async function checkConsole(kme: string, listen: HostPort): Promise<CheckLine> {
  const member = "this_kme.debugging_http_interface";
  const state = tryListen(listen);
  if (state !== "in use") return lineOf(member, listen, state);
  if (!await isKmeAt(kme, listen)) return taken(member, listen);
  return ok(member, `${formatHostPort(listen)} is in use by the running KME ${kme}`);
}

async function isKmeAt(kme: string, console: HostPort): Promise<boolean> {
  try {
    return (await askStatus(consoleUrl(console))).kme === kme;
  } catch {
    return false;
  }
}

type ListenState = "free" | "in use" | { readonly reason: string; readonly fix: string };

function tryListen({ hostname, port }: HostPort): ListenState {
  try {
    Deno.listen({ hostname, port }).close();
    return "free";
  } catch (error) {
    if (error instanceof Deno.errors.AddrInUse) return "in use";
    if (error instanceof Deno.errors.AddrNotAvailable) {
      return {
        reason: "is not an address of this machine",
        fix: "write an address of this machine, or 0.0.0.0 or [::] for all of them",
      };
    }
    if (error instanceof Deno.errors.PermissionDenied) {
      return {
        reason: "is a port that this user may not listen on",
        fix: "choose a port from 1024 up, or give the program the capability CAP_NET_BIND_SERVICE",
      };
    }
    const message = errorMessage(error);
    return { reason: `cannot be listened on (${message})`, fix: "write an address of this machine" };
  }
}

function lineOf(member: string, listen: HostPort, state: Exclude<ListenState, "in use">): CheckLine {
  const shown = formatHostPort(listen);
  return state === "free"
    ? ok(member, `${shown} is free`)
    : environmentError(member, `${shown} ${state.reason}`, state.fix);
}

function taken(member: string, listen: HostPort): CheckLine {
  return environmentError(
    member,
    `${formatHostPort(listen)} is in use by another program`,
    "stop that program, or choose another port",
  );
}

/** The certificate of the TLS server at an address, trusted or not; `undefined` without one. */
function certificateAt(listen: HostPort): Promise<X509Certificate | undefined> {
  const { hostname, port } = reachable(listen);
  return new Promise((resolve) => {
    const socket = tls.connect({ host: hostname, port, rejectUnauthorized: false });
    const end = (certificate?: X509Certificate) => {
      clearTimeout(timer);
      socket.on("error", () => {}).destroy();
      resolve(certificate);
    };
    const timer = setTimeout(() => end(), TIME_LIMIT_MS);
    socket.once("error", () => end());
    socket.once("close", () => end());
    socket.once("secureConnect", () => end(socket.getPeerX509Certificate()));
  });
}
