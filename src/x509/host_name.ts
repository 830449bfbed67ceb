/** Whether a server's certificate is for a host (RFC 9525). Only alternative names count: a common name is no host name. */
import { BlockList, isIP } from "node:net";
import type { Certificate } from "./certificate.ts";
import { alternativeNames } from "./certificate_names.ts";

/** Host names and addresses of a server's certificate. */
export function hostsOf({ subjectAltName }: Pick<Certificate, "subjectAltName">): string[] {
  const { dns, ip } = alternativeNames(subjectAltName);
  return [...dns, ...ip.map(formatAddress)];
}

/** @param host name, or address without brackets. */
export function isForHost({ subjectAltName }: Pick<Certificate, "subjectAltName">, host: string): boolean {
  let names;
  try {
    names = alternativeNames(subjectAltName);
  } catch {
    return false;
  }
  const { dns, ip } = names;
  if (isIP(host) !== 0) return ip.some((octets) => isAddress(octets, host));
  const called = labels(host);
  return dns.some((name) => matches(labels(name), called));
}

function labels(name: string): string[] {
  return name.toLowerCase().replace(/\.$/, "").split(".");
}

/** A `*` stands for the whole first label, with at least two labels after it. */
function matches(pattern: readonly string[], called: readonly string[]): boolean {
  if (pattern.length !== called.length || called.includes("")) return false;
  return pattern.every((label, i) => label === called[i] || (i === 0 && label === "*" && pattern.length > 2));
}

function isAddress(octets: Uint8Array, host: string): boolean {
  const family = octets.length === 4 ? "ipv4" : "ipv6";
  if (isIP(host) !== (family === "ipv4" ? 4 : 6)) return false;
  const list = new BlockList();
  list.addAddress(formatAddress(octets), family);
  return list.check(host, family);
}

function formatAddress(octets: Uint8Array): string {
  if (octets.length === 4) return octets.join(".");
  const groups = Array.from({ length: 8 }, (_, i) => (octets[2 * i]! << 8 | octets[2 * i + 1]!).toString(16));
  return new URL(`http://[${groups.join(":")}]`).hostname.slice(1, -1);
}
