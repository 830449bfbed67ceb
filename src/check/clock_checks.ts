/** Whether this machine's clock can be right: certificates, key lifetimes and leases depend on it. */
import { dirname, join } from "node:path";
import type { Config } from "../config/config.ts";
import { isNeighbour } from "../domain/network.ts";
import { broken, type CheckLine, ok, warn } from "./check_line.ts";

/** Milliseconds by which a file may be newer than the clock: file servers have clocks of their own. */
const TOLERANCE_MS = 60_000;

/** This program did not exist before. */
const EARLIEST = Date.UTC(2025, 0, 1);

/** @param now milliseconds since 1970. */
export async function checkClock(config: Config, now: number): Promise<CheckLine> {
  const shown = new Date(now).toISOString();
  const mend = "set the clock, and keep it right with NTP or PTP";
  if (now < EARLIEST) return broken("clock", `${shown} is before this program was made`, mend);
  const newest = await newestFile(config);
  if (newest !== undefined && newest.at > now + TOLERANCE_MS) {
    return warn(
      "clock",
      `it says ${shown}, but ${newest.path} was written at ${new Date(newest.at).toISOString()}`,
      mend,
    );
  }
  return ok("clock", `${shown}, not before the newest file`);
}

/** Of the configuration and its directory, the key files and the database. */
async function newestFile({ file, thisKme, otherKmes }: Config) {
  const directories = [
    thisKme.keyDirectory,
    ...otherKmes.flatMap((kme) => isNeighbour(kme) ? [kme.keyDirectory] : []),
    ...thisKme.database.kind === "sqlite" ? [dirname(thisKme.database.path)] : [],
  ];
  const paths = [file];
  for (const directory of directories) {
    try {
      for await (const entry of Deno.readDir(directory)) paths.push(join(directory, entry.name));
    } catch {
      // Another check speaks of it.
    }
  }
  let newest: { path: string; at: number } | undefined;
  for (const path of paths) {
    const mtime = await Deno.stat(path).then((info) => info.mtime, () => null);
    if (mtime !== null && mtime.getTime() > (newest?.at ?? 0)) newest = { path, at: mtime.getTime() };
  }
  return newest;
}
