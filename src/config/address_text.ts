/** Addresses as a configuration writes them. */
import { isIP, isIPv4, isIPv6 } from "node:net";
import type { Parsed } from "../domain/parsed.ts";
import type { HostPort } from "../domain/address.ts";

const RIGHT = "write IP:port, [IPv6]:port or host:port, as in 127.0.0.1:3000";

/** Reads `IP:port`, `[v6]:port` or `host:port`; the port is 1 to 65535. */
export function parseHostPort(text: string): Parsed<HostPort> {
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(text)) {
    return { complaint: `an address has no scheme in front; ${RIGHT}` };
  }
  const parts = /^(?:\[(.*)\]|(.*)):([^:\]]*)$/s.exec(text);
  if (parts === null) return { complaint: `${quote(text)} has no port; ${RIGHT}` };
  const [, bracketed, plain, portText = ""] = parts;
  const hostname = bracketed ?? plain ?? "";
  if (hostname === "") return { complaint: `${quote(text)} has no host; ${RIGHT}` };
  if (bracketed === undefined && hostname.includes(":")) {
    return {
      complaint: `an IPv6 address is written in brackets, as in [${isIPv6(text) ? "::1" : hostname}]:3000`,
    };
  }
  const isAddress = bracketed === undefined ? isIPv4(hostname) : isIPv6(hostname);
  if (!isAddress && (bracketed !== undefined || !isHostName(hostname))) {
    return { complaint: `${quote(hostname)} is neither an IP address nor a host name; ${RIGHT}` };
  }
  const port = /^[0-9]{1,5}$/.test(portText) ? Number(portText) : NaN;
  if (port === 0) {
    return { complaint: "port 0 lets the system choose a port that nobody knows; write one from 1 to 65535" };
  }
  if (!(port <= 65535)) return { complaint: `${quote(portText)} is not a port; write one from 1 to 65535` };
  return { value: { hostname, port } };
}

/** RFC 1123, with the underscore that container networks use. A name of digits would be a broken IPv4 address. */
function isHostName(text: string): boolean {
  const label = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?";
  return isIP(text) === 0 && text.length <= 253 &&
    new RegExp(`^(?:${label}\\.)*${label}\\.?$`, "i").test(text) &&
    !/(?:^|\.)[0-9]+\.?$/.test(text);
}

function quote(text: string): string {
  return JSON.stringify(text);
}
