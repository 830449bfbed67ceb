/** Which requests the console answers. It has no authentication, so a web page of another site must not reach it through a browser. */
import { isLoopback } from "../domain/address.ts";

/**
 * Why a request is not answered; undefined if it is.
 *
 * A page of another site can let its own host name resolve to 127.0.0.1 and then read the answers (DNS rebinding). So on a
 * loopback address only the names of this host are answered. On any other address the valid names are not known.
 */
export function complaintAbout(headers: Headers, listen: string): string | undefined {
  if (isLoopback(listen)) {
    const name = hostnameOf(headers.get("host"));
    if (name === undefined || !(isLoopback(name) || name === listen.toLowerCase())) {
      return "this listener answers to localhost only";
    }
  }
  // Browsers report whether a page of another origin asks, also one on another port of this host. Following a link is harmless.
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
