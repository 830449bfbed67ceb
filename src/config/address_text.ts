/** Parses addresses in a configuration. */
import { isIP, isIPv4, isIPv6 } from "node:net";
import type { Parsed } from "../domain/parsed.ts";
import type { HostPort } from "../domain/address.ts";

const RIGHT = "write IP:port, [IPv6]:port or host:port, as in 127.0.0.1:3000";

/** Parses `IP:port`, `[v6]:port` or `host:port`; the port is 1 to 65535. */
export function parseHostPort(text: string): Parsed<HostPort> {
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(text)) {
    return { problem: `an address does not begin with a scheme; ${RIGHT}` };
  }
  const parts = /^(?:\[(.*)\]|(.*)):([^:\]]*)$/s.exec(text);
  if (parts === null) return { problem: `${quote(text)} has no port; ${RIGHT}` };
  const [, bracketed, plain, portText = ""] = parts;
  const hostname = bracketed ?? plain ?? "";
  if (hostname === "") return { problem: `${quote(text)} has no host; ${RIGHT}` };
  if (bracketed === undefined && hostname.includes(":")) {
    return {
      problem: `an IPv6 address needs brackets; write it as in [${isIPv6(text) ? "::1" : hostname}]:3000`,
    };
  }
  const isAddress = bracketed === undefined ? isIPv4(hostname) : isIPv6(hostname);
  if (!isAddress && (bracketed !== undefined || !isHostName(hostname))) {
    return { problem: `${quote(hostname)} is neither an IP address nor a host name; ${RIGHT}` };
  }
  const port = /^[0-9]{1,5}$/.test(portText) ? Number(portText) : NaN;
  if (port === 0) {
    return { problem: "port 0 means a random port; write a port from 1 to 65535" };
  }
  if (!(port <= 65535)) return { problem: `${quote(portText)} is not a port; write a port from 1 to 65535` };
  return { value: { hostname, port } };
}

/** RFC 1123, and the underscore that container networks use. A name that ends in digits is a malformed IPv4 address. */
function isHostName(text: string): boolean {
  const label = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?";
  return isIP(text) === 0 && text.length <= 253 &&
    new RegExp(`^(?:${label}\\.)*${label}\\.?$`, "i").test(text) &&
    !/(?:^|\.)[0-9]+\.?$/.test(text);
}

function quote(text: string): string {
  return JSON.stringify(text);
}
