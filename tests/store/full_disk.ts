/** A small disk that can be filled and emptied (Linux, as root: it is mounted). */
import { findProgram, runChild } from "../harness/child_process.ts";
import { makeTempDir } from "../harness/temp_dir.ts";

export interface SmallDisk extends AsyncDisposable {
  readonly path: string;
  /** Takes all the room that is left. */
  fill(): Promise<void>;
  /** Gives it back. */
  empty(): Promise<void>;
}

/** Whether such a disk can be made here, or why not. */
export function smallDiskAvailable(): { available: true } | { available: false; reason: string } {
  if (Deno.build.os !== "linux" || Deno.uid() !== 0) {
    return { available: false, reason: "only root on Linux can mount a small disk" };
  }
  if (findProgram("mount") === undefined) return { available: false, reason: "mount is not installed" };
  return { available: true };
}

/** @returns `undefined` where the system does not let root mount, as in many containers. */
export async function makeSmallDisk(megabytes: number): Promise<SmallDisk | undefined> {
  const dir = await makeTempDir("kme-disk-");
  const { code } = await runChild("mount", {
    args: ["-t", "tmpfs", "-o", `size=${megabytes}m,mode=700`, "kme-test", dir.path],
  });
  if (code !== 0) {
    await dir.remove();
    return undefined;
  }
  const filler = `${dir.path}/filler`;
  return {
    path: dir.path,
    async fill() {
      using file = await Deno.open(filler, { write: true, create: true, append: true });
      for (let size = 65536; size >= 1; size = Math.floor(size / 2)) {
        try {
          while (true) await file.write(new Uint8Array(size));
        } catch {
          // Full for this size.
        }
      }
    },
    empty: () => Deno.remove(filler),
    async [Symbol.asyncDispose]() {
      await runChild("umount", { args: ["-l", dir.path] });
      await dir.remove();
    },
  };
}

/** Registers a test that gets a small disk, or that says why it is ignored. */
export function fullDiskTest(name: string, megabytes: number, fn: (disk: SmallDisk) => Promise<void>): void {
  const availability = smallDiskAvailable();
  if (!availability.available) {
    Deno.test({ name: `${name} (${availability.reason})`, ignore: true, fn: () => {} });
    return;
  }
  Deno.test(name, async () => {
    await using disk = await makeSmallDisk(megabytes);
    if (disk === undefined) return console.log("    not tried: this system does not let root mount");
    await fn(disk);
  });
}
