/** The system's proxy, from environment variables. */
import { BlockList, isIP } from "node:net";
import type { HostPort } from "../domain/address.ts";

/** Looks up an environment variable. */
export type Env = (name: string) => string | undefined;

/**
 * The proxy through which an HTTPS address is reached: `HTTPS_PROXY` or `https_proxy`, else `ALL_PROXY` or `all_proxy`,
 * unless `NO_PROXY` or `no_proxy` names the address (host, `.domain` or domain, `host:port`, IP, CIDR, `*`).
 *
 * @returns an `http:` or `https:` URL, possibly with credentials; `undefined`: connect directly.
 * @throws Error when the variable holds a proxy that this program cannot use. It does not connect directly then: that would
 * bypass a proxy that an administrator has set. The message contains no credentials.
 */
export function proxyFor(address: HostPort, env: Env): URL | undefined {
  const first = (...names: string[]) =>
    names.map(env).find((value) => value !== undefined && value.trim() !== "");
  const setting = first("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")?.trim();
  if (setting === undefined) return undefined;
  if (exempt(address, first("NO_PROXY", "no_proxy") ?? "")) return undefined;
  const text = /^[a-z][a-z0-9+.-]*:\/\//i.test(setting) ? setting : `http://${setting}`;
  if (!URL.canParse(text)) throw new Error("the system's proxy setting is not a URL");
  const url = new URL(text);
  if (url.protocol !== "http:" && url.protocol !== "https:") {
    throw new Error(
      `the system's proxy setting is of the kind ${url.protocol}//, only http:// and https:// are supported`,
    );
  }
  return url;
}

function exempt({ hostname, port }: HostPort, noProxy: string): boolean {
  const host = hostname.toLowerCase().replace(/\.$/, "");
  return noProxy.split(/[\s,]+/).filter((entry) => entry !== "").some((entry) =>
    matches(entry.toLowerCase(), host, port)
  );
}

function matches(entry: string, host: string, port: number): boolean {
  if (entry === "*") return true;
  const network = /^([0-9a-f.:]+)\/(\d+)$/.exec(entry);
  if (network) return contains(network[1]!, Number(network[2]), host);
  const withPort = /^(\[[^\]]+\]|[^:]+):(\d+)$/.exec(entry);
  if (withPort && Number(withPort[2]) !== port) return false;
  const name = (withPort?.[1] ?? entry).replace(/^\[|\]$/g, "");
  if (isIP(host)) return isIP(name) !== 0 && contains(name, isIP(name) === 6 ? 128 : 32, host);
  const domain = name.replace(/^\*?\./, "").replace(/\.$/, "");
  return domain !== "" && (host === domain || host.endsWith(`.${domain}`));
}

function contains(network: string, prefix: number, host: string): boolean {
  const family = isIP(network);
  if (family === 0 || family !== isIP(host) || prefix > (family === 6 ? 128 : 32)) return false;
  const kind = family === 6 ? "ipv6" : "ipv4";
  const list = new BlockList();
  list.addSubnet(network, prefix, kind);
  return list.check(host, kind);
}
