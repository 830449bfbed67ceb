/** Directories for one test, removed afterwards. */

/** A fresh directory. */
export interface TempDir extends AsyncDisposable {
  readonly path: string;
  /** Removes the directory and all in it; a second call does nothing. */
  remove(): Promise<void>;
}

const live = new Set<string>();

// A test that is interrupted removes nothing itself.
globalThis.addEventListener("unload", () => {
  for (const path of live) removeSync(path);
});

/**
 * Makes a fresh directory that is removed by `remove()`, by `await using`, or when the test file ends.
 *
 * @param prefix start of the directory's name.
 * @param dir directory to make it in; the system's for temporary files by default.
 */
export async function makeTempDir(prefix = "kme-test-", dir?: string): Promise<TempDir> {
  // Symbolic links resolved, so that paths compare equal to those of file-system events (macOS).
  const path = await Deno.realPath(await Deno.makeTempDir({ prefix, dir }));
  live.add(path);
  const remove = async () => {
    live.delete(path);
    await Deno.remove(path, { recursive: true }).catch((error) => {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    });
  };
  return { path, remove, [Symbol.asyncDispose]: remove };
}

function removeSync(path: string): void {
  // A program that is just being killed may still create a file in the directory.
  for (let attempt = 0; attempt < 20; attempt++) {
    try {
      Deno.removeSync(path, { recursive: true });
      return;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return;
    }
  }
}
