/** Checks that this user may do with directories and files what a running KME does with them. */
import { dirname, join } from "node:path";
import type { Config } from "../config/config.ts";
import { watchedDirectories } from "../config/watched_directories.ts";
import { isNeighbour } from "../domain/network.ts";
import { isKeyFileName } from "../ingest/key_file.ts";
import { readServedFiles } from "../ingest/served_files.ts";
import { markerPath } from "../rollback_guard/marker.ts";
import { inspectDatabase } from "../store/inspection.ts";
import { freeBytes, freeDiskBytes, FULL_BYTES } from "../store/disk_space.ts";
import { type CheckLine, environmentError, ok, warn } from "./check_line.ts";
import { errorMessage } from "../domain/text.ts";
import { platform } from "../platform.ts";

/** Key files of one directory that are opened to check that they are readable. */
const MAX_OPENED = 1000;

export async function checkDirectories(config: Config): Promise<CheckLine[]> {
  const { thisKme, otherKmes } = config;
  const directories = [
    { member: "this_kme.key_directory_to_watch", path: thisKme.keyDirectory },
    ...otherKmes.flatMap((kme, index) =>
      isNeighbour(kme) && kme.keyDirectory !== undefined
        ? [{ member: `other_kmes[${index}].key_directory_to_watch`, path: kme.keyDirectory }]
        : []
    ),
  ];
  const lines: CheckLine[] = [];
  for (const { member, path } of directories) {
    lines.push(await checkKeyDirectory(member, path, thisKme.deleteKeyFileAfterRead));
  }
  const marker = markerPath(config);
  if (marker !== undefined && !thisKme.deleteKeyFileAfterRead && dirname(marker) === thisKme.keyDirectory) {
    lines.push(await checkMarkerDirectory(marker));
  }
  const { database } = thisKme;
  if (database.kind === "sqlite") lines.push(await checkDatabaseDirectory(dirname(database.path)));
  if (thisKme.auditLog !== undefined) lines.push(...await checkAuditDirectory(thisKme.auditLog.directory));
  lines.push(...await checkFreeSpace(config), ...await checkServedFiles(config));
  return lines;
}

/** Bytes of free space below which the check warns: about 700,000 blocks in a database file. */
const LITTLE_BYTES = 100 * 1024 * 1024;

async function checkAuditDirectory(path: string): Promise<CheckLine[]> {
  const what = "this_kme.audit_log.directory";
  const reason = await whyNotWritable(path);
  if (reason !== undefined) {
    return [environmentError(
      what,
      `${path}: ${reason}, and without a record no key is given out`,
      "let the user of the KME write to the directory",
    )];
  }
  return [ok(what, `${path} is writable`), ...spaceLines(`${what}: free space`, await freeBytes(path))];
}

async function checkFreeSpace({ thisKme: { database } }: Config): Promise<CheckLine[]> {
  return spaceLines("free space of the database's disk", await freeDiskBytes(database));
}

function spaceLines(what: string, free: number | undefined): CheckLine[] {
  if (free === undefined) return [];
  const size = `${Math.floor(free / (1024 * 1024))} MiB`;
  const fix = "free some space, or use a larger disk";
  if (free < FULL_BYTES) return [environmentError(what, `${size}: the disk is full`, fix)];
  return [free < LITTLE_BYTES ? warn(what, `${size} are left`, fix) : ok(what, `${size} are left`)];
}

/** Root may read and write everything, so the other checks say nothing about the user of the KME. */
export function checkUser(): CheckLine[] {
  if (!platform.isRoot) return [];
  return [warn(
    "user",
    "the check runs as root, which may read and write everything",
    "run it as the user of the KME, as in: sudo -u kme kme check CONFIG",
  )];
}

async function checkKeyDirectory(member: string, path: string, deletes: boolean): Promise<CheckLine> {
  if (deletes) {
    const reason = await whyNotWritable(path);
    if (reason !== undefined) {
      return environmentError(
        member,
        `${path}: ${reason}, but delete_key_file_after_read is true`,
        "let the user of the KME write to the directory, or set delete_key_file_after_read to false",
      );
    }
  }
  let waiting = 0;
  const odd: string[] = [];
  try {
    for await (const { name, isFile } of Deno.readDir(path)) {
      if (!isKeyFileName(name)) continue;
      // Not opened: it may be a pipe without a writer, or lead to a file that is none of the directory's.
      if (!isFile) {
        odd.push(name);
        continue;
      }
      if (waiting++ >= MAX_OPENED) continue;
      try {
        (await Deno.open(join(path, name))).close();
      } catch (error) {
        if (error instanceof Deno.errors.NotFound) continue; // a running KME has just deleted it
        return environmentError(
          member,
          `the key file ${join(path, name)} is not readable`,
          "make the key files readable for the group of the KME where they are written",
        );
      }
    }
  } catch (error) {
    return environmentError(
      member,
      `${path}: ${reasonOf(error)}`,
      "let the user of the KME read the directory",
    );
  }
  const foreign = await writtenByOthers(path);
  if (foreign !== undefined) {
    return warn(
      member,
      `${foreign}: whoever writes key files knows the keys`,
      "let only the user that delivers key files own the directory and write there (chown, chmod o-w)",
    );
  }
  if (odd.length > 0) {
    return warn(
      member,
      `${path}: ${odd.length} ${
        odd.length === 1 ? "entry is" : "entries are"
      } named like key files but are no ` +
        `regular files, such as ${odd[0]}; nothing of them is ingested`,
      "remove them",
    );
  }
  const files = waiting === 0 ? "no key files" : `${waiting} key file${waiting === 1 ? "" : "s"} to ingest`;
  return ok(member, `${path} is readable${deletes ? " and writable" : ""}; ${files}`);
}

/**
 * What shows that other users than the one that delivers key files may have written some: a mode of the directory or of the first
 * such key file, or its owner. That user is the directory's owner (POSIX only).
 */
async function writtenByOthers(directory: string): Promise<string | undefined> {
  if (!platform.hasFileModes) return undefined;
  const { mode, uid: deliverer } = await Deno.stat(directory);
  const forAll = (mode: number | null) => ((mode ?? 0) & 0o002) !== 0;
  if (forAll(mode)) return `${directory} may be written by all users`;
  let looked = 0;
  for await (const { name, isFile } of Deno.readDir(directory)) {
    if (!isFile || !isKeyFileName(name) || looked++ >= MAX_OPENED) continue;
    const path = join(directory, name);
    const info = await Deno.lstat(path).catch(() => undefined);
    if (info === undefined) continue; // a running KME has just deleted it
    if (forAll(info.mode)) return `${path} may be written by all users`;
    const { uid } = info;
    if (uid !== deliverer && uid !== 0 && !platform.isOwn(uid)) {
      return `${path} belongs to user ${uid}, not to the directory's owner`;
    }
  }
  return undefined;
}

/** Key files that stay in their directory and were ingested into another database than the configured one. */
async function checkServedFiles(config: Config): Promise<CheckLine[]> {
  const { thisKme } = config;
  if (thisKme.deleteKeyFileAfterRead) return [];
  const inspection = await inspectDatabase(thisKme.database).catch(() => undefined);
  const database = inspection?.kind === "seen" ? inspection.databaseId?.toHex() : undefined;
  // A database in use is that of the running KME, which says so itself.
  if (inspection === undefined || inspection.kind === "inUse") return [];
  const lines: CheckLine[] = [];
  for (const { directory: path } of watchedDirectories(config)) {
    const served = new Set<string>();
    for (const { kme, file, database: other } of await readServedFiles(path).catch(() => [])) {
      if (kme !== thisKme.id.text || other === database) continue;
      if (await Deno.lstat(join(path, file)).then(() => true, () => false)) served.add(file);
    }
    if (served.size === 0) continue;
    lines.push(warn(
      "key files",
      `${served.size} in ${path} were ingested into another database before: their keys may be given out twice`,
      "use a database file that lasts and delete_key_file_after_read: true, and remove these files",
    ));
  }
  return lines;
}

async function checkDatabaseDirectory(path: string): Promise<CheckLine> {
  const member = "this_kme.db_uri";
  const reason = await whyNotWritable(path);
  if (reason === undefined) return ok(member, `${path} is writable`);
  return environmentError(
    member,
    `${path}: ${reason}`,
    "let the user of the KME write to the database's directory",
  );
}

/** A KME also runs without its marker, but then cannot notice an old backup. */
async function checkMarkerDirectory(marker: string): Promise<CheckLine> {
  const member = "this_kme.key_directory_to_watch";
  const reason = await whyNotWritable(dirname(marker));
  if (reason === undefined) return ok(member, `${marker} is writable`);
  return warn(
    member,
    `${dirname(marker)}: ${reason}, so ${marker} cannot be written and an old backup would not be noticed`,
    "let the user of the KME write to the directory",
  );
}

/** Creates and removes a file: that covers modes, access lists and mount options. A KME ignores files of this name. */
async function whyNotWritable(directory: string): Promise<string | undefined> {
  const path = join(directory, `.kme-check-${crypto.randomUUID()}`);
  try {
    (await Deno.open(path, { write: true, createNew: true, mode: 0o600 })).close();
    await Deno.remove(path);
    return undefined;
  } catch (error) {
    return reasonOf(error);
  }
}

function reasonOf(error: unknown): string {
  if (error instanceof Deno.errors.PermissionDenied) return "not writable for this user";
  const message = errorMessage(error);
  return message.replace(/: (?:open|readdir|remove|writefile).*$/s, "");
}
