/** Who may ask the console: it has no password, so a web page elsewhere must not be able to use somebody's browser for it. */
import { isLoopback } from "../domain/address.ts";

/**
 * Why a request is not answered; undefined when it is.
 *
 * A page of another site can make a name of its own resolve to 127.0.0.1 and then read what is here (DNS rebinding): on
 * a loopback address only its own names are answered. Behind any other address there may be names nobody knows here.
 */
export function complaintAbout(headers: Headers, listen: string): string | undefined {
  if (isLoopback(listen)) {
    const name = hostnameOf(headers.get("host"));
    if (name === undefined || !(isLoopback(name) || name === listen.toLowerCase())) {
      return "this listener answers to localhost only";
    }
  }
  // Browsers say whether a page elsewhere asks, be it on another port of this host. Following a link is harmless.
  const site = headers.get("sec-fetch-site");
  if (
    site !== null && site !== "same-origin" && site !== "none" && headers.get("sec-fetch-mode") !== "navigate"
  ) {
    return "this listener does not answer other sites";
  }
  return undefined;
}

function hostnameOf(host: string | null): string | undefined {
  if (host === null || !/^[a-z0-9.:\-[\]]+$/i.test(host)) return undefined;
  try {
    return new URL(`http://${host}/`).hostname;
  } catch {
    return undefined;
  }
}
