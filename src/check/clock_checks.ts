/** Checks that this machine's clock is plausible: certificates, key lifetimes and leases depend on it. */
import { dirname, join } from "node:path";
import type { Config } from "../config/config.ts";
import { watchedDirectories } from "../config/watched_directories.ts";
import { type CheckLine, environmentError, ok, warn } from "./check_line.ts";

/** Milliseconds by which a file may be newer than the clock: file servers have their own clocks. */
const TOLERANCE_MS = 60_000;

/** Before this program was written. */
const EARLIEST = Date.UTC(2025, 0, 1);

/** @param now milliseconds since 1970. */
export async function checkClock(config: Config, now: number): Promise<CheckLine> {
  const shown = new Date(now).toISOString();
  const fix = "set the clock, and synchronize it with NTP or PTP";
  if (now < EARLIEST) return environmentError("clock", `${shown} is before this program was written`, fix);
  const newest = await newestFile(config);
  if (newest !== undefined && newest.at > now + TOLERANCE_MS) {
    return warn(
      "clock",
      `the clock says ${shown}, but ${newest.path} was written at ${new Date(newest.at).toISOString()}`,
      fix,
    );
  }
  return ok("clock", `${shown}, not before the newest file`);
}

/** The newest of: the configuration file, key files, files beside the database. */
async function newestFile(config: Config) {
  const { file, thisKme } = config;
  const directories = [
    ...watchedDirectories(config).map(({ directory }) => directory),
    ...thisKme.database.kind === "sqlite" ? [dirname(thisKme.database.path)] : [],
  ];
  const paths = [file];
  for (const directory of directories) {
    try {
      for await (const entry of Deno.readDir(directory)) paths.push(join(directory, entry.name));
    } catch {
      // Reported by another check.
    }
  }
  let newest: { path: string; at: number } | undefined;
  for (const path of paths) {
    const mtime = await Deno.stat(path).then((info) => info.mtime, () => null);
    if (mtime !== null && mtime.getTime() > (newest?.at ?? 0)) newest = { path, at: mtime.getTime() };
  }
  return newest;
}
