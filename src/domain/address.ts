/** Addresses of listeners and peers. */
import { isIPv4, isIPv6 } from "node:net";

/** `host:port` of a listener or of a peer. */
export interface HostPort {
  /** Host name or address; IPv6 without brackets. */
  readonly hostname: string;
  readonly port: number;
}

/** `host:port`, IPv6 in brackets. */
export function formatHostPort({ hostname, port }: HostPort): string {
  return isIPv6(hostname) ? `[${hostname}]:${port}` : `${hostname}:${port}`;
}

/** Whether two listeners cannot both be opened: the same port, on addresses that are or include each other. */
export function overlap(a: HostPort, b: HostPort): boolean {
  if (a.port !== b.port) return false;
  const [first, second] = [canonical(a.hostname), canonical(b.hostname)];
  return first === second || isWildcard(first) || isWildcard(second) ||
    (first === "localhost" && isLoopback(second)) || (second === "localhost" && isLoopback(first));
}

/** Whether only this machine reaches a host name or address; IPv6 with or without brackets. */
export function isLoopback(hostname: string): boolean {
  const host = canonical(hostname.replace(/^\[(.*)\]$/, "$1"));
  return host === "localhost" || host.endsWith(".localhost") || host === "::1" ||
    (isIPv4(host) && host.startsWith("127."));
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
