/** Addresses of listeners and peers. */
import { isIP, isIPv4, isIPv6 } from "node:net";
import type { HostPort } from "./config.ts";
import type { Parsed } from "./parsed.ts";

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

/** Whether two listeners cannot both be opened: the same port, on addresses that are or include each other. */
export function overlap(a: HostPort, b: HostPort): boolean {
  if (a.port !== b.port) return false;
  const [first, second] = [canonical(a.hostname), canonical(b.hostname)];
  return first === second || isWildcard(first) || isWildcard(second) ||
    (first === "localhost" && isLoopback(second)) || (second === "localhost" && isLoopback(first));
}

/** Whether only this machine reaches it. */
export function isLoopback(hostname: string): boolean {
  const host = canonical(hostname);
  return host === "localhost" || host.endsWith(".localhost") || host === "::1" ||
    (isIPv4(host) && host.startsWith("127."));
}

/** `host:port`, IPv6 in brackets. */
export function formatHostPort({ hostname, port }: HostPort): string {
  return isIPv6(hostname) ? `[${hostname}]:${port}` : `${hostname}:${port}`;
}

function isWildcard(host: string): boolean {
  return host === "0.0.0.0" || host === "::";
}

/** One spelling of each address; an IPv4 address mapped into IPv6 is the IPv4 address. */
function canonical(hostname: string): string {
  if (!isIPv6(hostname) || hostname.includes("%")) return hostname.toLowerCase();
  const short = new URL(`http://[${hostname}]`).hostname.slice(1, -1);
  const mapped = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(short);
  if (mapped === null) return short;
  const bits = parseInt(mapped[1]!, 16) * 65536 + parseInt(mapped[2]!, 16);
  return [24, 16, 8, 0].map((shift) => bits >>> shift & 255).join(".");
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
