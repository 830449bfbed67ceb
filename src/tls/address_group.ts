/** Which connections come from one client, as far as their addresses tell. */
import type { Socket } from "node:net";

/** `address:port` of the other end; `undefined` when it is gone already. */
export function remoteOf(socket: Socket): string | undefined {
  const { remoteAddress, remotePort } = socket;
  return remoteAddress === undefined || remotePort === undefined
    ? undefined
    : `${remoteAddress}:${remotePort}`;
}

/** The first connection of the addresses that have the most of these; each is `address:port`. */
export function firstOfTheMost(remotes: Iterable<string>): string | undefined {
  const groups = new Map<string, { first: string; count: number }>();
  let most: { first: string; count: number } | undefined;
  for (const remote of remotes) {
    const name = addressGroup(remote);
    let group = groups.get(name);
    if (group === undefined) groups.set(name, group = { first: remote, count: 0 });
    group.count++;
    if (most === undefined || group.count > most.count) most = group;
  }
  return most?.first;
}

/** The addresses that one client may have: an IPv4 address, or the first half of an IPv6 address. */
function addressGroup(remote: string): string {
  const address = remote.slice(0, remote.lastIndexOf(":"));
  if (!address.includes(":") || address.startsWith("::ffff:")) return address;
  const [head = "", tail] = address.split("::");
  const groups = head === "" ? [] : head.split(":");
  const missing = tail === undefined ? 0 : 8 - groups.length - (tail === "" ? 0 : tail.split(":").length);
  return [...groups, ...Array<string>(missing).fill("0")].slice(0, 4).join(":");
}
