/** What differs between operating systems. */
import { tmpdir } from "node:os";
import { basename, join } from "node:path";

export interface Platform {
  /** Signals that ask the program to stop. */
  readonly stopSignals: readonly Deno.Signal[];
  /** Signal that asks a KME to reload its configuration; absent where the system has none. */
  readonly reloadSignal: Deno.Signal | undefined;
  /** Whether files have owners and a mode. */
  readonly hasFileModes: boolean;
  /** Whether the user may read and write everything, whatever the modes say. */
  readonly isRoot: boolean;
  /** Whether a file with this owner is this user's; `null`: the system does not tell owners. */
  isOwn(owner: number | null): boolean;
  /** Events of a watched directory that say that a file is complete. */
  readonly completeEvents: readonly Deno.FsEvent["kind"][];
  /** The path of a file URI without its scheme, as in `sqlite:///C:/keys/kme.db`. */
  pathOfUri(path: string): string;
}

/** What a system says of itself. */
export interface SystemFacts {
  readonly os: typeof Deno.build.os;
  /** User id; `null` where there is none. */
  readonly uid: number | null;
}

export function describePlatform({ os, uid }: SystemFacts): Platform {
  const isWindows = os === "windows";
  return {
    // Windows has Ctrl-C and Ctrl-Break only.
    stopSignals: isWindows ? ["SIGINT", "SIGBREAK"] : ["SIGINT", "SIGTERM"],
    reloadSignal: isWindows ? undefined : "SIGHUP",
    hasFileModes: !isWindows,
    isRoot: !isWindows && uid === 0,
    isOwn: (owner) => isWindows || owner === uid,
    // Only Linux tells that a file was closed after it was written (`access`), and that it was renamed. No system tells
    // what another host does in a shared directory.
    completeEvents: os === "linux" ? ["access", "rename"] : [],
    pathOfUri: (path) => isWindows ? path.replace(/^\/(?=[a-z]:)/i, "") : path,
  };
}

/** The system on which the program runs. */
export const platform: Platform = describePlatform({ os: Deno.build.os, uid: Deno.uid() });

/** `constants` of `node:fs`, as far as they say how a file is opened. */
export interface OpenFlags {
  readonly O_RDONLY: number;
  readonly O_NOFOLLOW?: number;
  readonly O_NONBLOCK?: number;
}

/**
 * Flags to open a file for reading without following a symbolic link and without waiting for the writer of a pipe.
 * Windows has neither flag: there a caller compares the open file with what `lstat` says of the path.
 *
 * @param flags of this system; given by the caller, since loading `node:fs` would slow down every command.
 */
export function openRegularFile({ O_RDONLY, O_NOFOLLOW = 0, O_NONBLOCK = 0 }: OpenFlags): number {
  return O_RDONLY | O_NOFOLLOW | O_NONBLOCK;
}

/**
 * Makes a directory that only this user can enter, and uses it for temporary files (`TMPDIR`) until the program
 * ends. A compiled program unpacks SQLite's library under a name that other users can predict, and uses a file of that
 * name that is there already. Nothing is done on Windows, where each user has a directory for temporary files.
 *
 * The directory is locked, so that systemd-tmpfiles does not remove files in it because of their age. It has to be called
 * in the main thread before the library is loaded; further calls do nothing.
 */
export function usePrivateTempDirectory(): void {
  const prefix = `kme-${Deno.pid}-`;
  const parent = tmpdir();
  if (!platform.hasFileModes || basename(parent).startsWith(prefix)) return;
  removeLeftDirectories(parent);
  // With mode 0700.
  const unlocked = Deno.makeTempDirSync({ dir: parent, prefix: `.${prefix}` });
  // Held until the process ends, however it ends. The directory gets its name when it is locked.
  Deno.openSync(unlocked, { read: true }).lockSync(true);
  const directory = join(parent, basename(unlocked).slice(1));
  Deno.renameSync(unlocked, directory);
  Deno.env.set("TMPDIR", directory);
  globalThis.addEventListener("unload", () => {
    try {
      Deno.removeSync(directory, { recursive: true });
    } catch {
      // Somebody else has removed it, or it only takes some space.
    }
  });
}

/** Removes the directories of this user's processes that were killed. */
function removeLeftDirectories(parent: string): void {
  try {
    for (const { name, isDirectory } of Deno.readDirSync(parent)) {
      if (isDirectory && /^kme-\d+-/.test(name)) removeIfLeft(join(parent, name));
    }
  } catch {
    // They only take some space.
  }
}

function removeIfLeft(directory: string): void {
  try {
    if (!platform.isOwn(Deno.lstatSync(directory).uid)) return;
    using lock = Deno.openSync(directory, { read: true });
    if (lock.tryLockSync(true)) Deno.removeSync(directory, { recursive: true });
  } catch {
    // Another process removes it at the same time.
  }
}
