/** The files of npm packages that a build for one platform needs. */
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import type { Target } from "./targets.ts";

export const ROOT: string = fileURLToPath(new URL("../", import.meta.url));

/** Modules that are started, not imported. */
export const WORKERS: readonly string[] = ["src/store/engine/store_worker.ts"];

export interface NpmPackage {
  readonly name: string;
  readonly version: string;
  /** Directory in Deno's cache. */
  readonly localPath: string;
}

/** Runs Deno; its standard error is shown. @throws Error when it fails. */
export async function runDeno(args: readonly string[], env: Record<string, string> = {}): Promise<string> {
  const command = new Deno.Command(Deno.execPath(), {
    args: [...args],
    cwd: ROOT,
    env: { ...env, NO_COLOR: "1" },
    stdout: "piped",
    stderr: "inherit",
  });
  const { success, code, stdout } = await command.output();
  if (!success) throw new Error(`deno ${args[0]} ended with exit code ${code}`);
  return new TextDecoder().decode(stdout);
}

/**
 * The packages of `deno.lock`, which are in Deno's cache.
 *
 * @throws Error when one is not there.
 */
export async function npmPackages(): Promise<NpmPackage[]> {
  const info = JSON.parse(await runDeno(["info", "--json", "src/main.ts"]));
  const packages = Object.values(info.npmPackages as Record<string, NpmPackage>);
  const missing: string[] = [];
  for (const { name, version, localPath } of packages) {
    if (!await isDirectory(localPath)) missing.push(`${name}@${version}`);
  }
  if (missing.length > 0) {
    throw new Error(`not in Deno's cache: ${missing.join(", ")}; run "deno install --frozen"`);
  }
  return packages;
}

/**
 * Whether the program on `target` needs a file of a package: declarations, TypeScript sources and maps are for
 * development, and SQLite's package holds its C sources and the addons of all platforms. Licences stay.
 *
 * @param path relative to the package, with slashes.
 */
export function isNeeded(packageName: string, path: string, target: Target): boolean {
  if (/\.(?:[cm]?ts|map|md|markdown|flow|tgz)$/i.test(path)) return false;
  if (packageName === "better-sqlite3") {
    if (/^(?:deps|src)\//.test(path) || path === "binding.gyp") return false;
    if (path.startsWith("prebuilds/")) return path === `prebuilds/${target.addon}.node`;
  }
  // Only headers for compiling addons.
  if (packageName === "node-addon-api") return path === "package.json" || /^license/i.test(path);
  return true;
}

/**
 * Makes a cache for Deno (`DENO_DIR`) in `directory` that holds only what the program on `target` needs. The files are
 * links to those of Deno's own cache where the file system can do that.
 */
export async function stagePackages(target: Target, directory: string): Promise<void> {
  const { denoDir, npmCache } = JSON.parse(await runDeno(["info", "--json"]));
  // Runtimes that were downloaded before.
  const downloads = join(denoDir, "dl");
  await Deno.mkdir(downloads, { recursive: true });
  // On Windows only an administrator may make another kind of link.
  await Deno.symlink(downloads, join(directory, "dl"), { type: "junction" });
  for (const { name, localPath } of await npmPackages()) {
    const place = (path: string) => join(directory, "npm", relative(npmCache, path));
    await Deno.mkdir(place(localPath), { recursive: true });
    for await (const path of filesBelow(localPath)) {
      const inPackage = relative(localPath, path).replaceAll("\\", "/");
      if (isNeeded(name, inPackage, target)) await link(path, place(path));
    }
    // Deno has fetched it only where `deno.lock` did not tell enough about the package.
    const registry = join(dirname(localPath), "registry.json");
    if (await isFile(registry)) await link(registry, place(registry));
  }
}

async function link(from: string, to: string): Promise<void> {
  await Deno.mkdir(dirname(to), { recursive: true });
  try {
    await Deno.link(from, to);
  } catch (error) {
    if (error instanceof Deno.errors.AlreadyExists) return;
    // Another file system, or one without hard links.
    await Deno.copyFile(from, to);
  }
}

const isDirectory = async (path: string) => (await statIfThere(path))?.isDirectory === true;
/** Whether there is a file, or a link to one. */
export const isFile = async (path: string) => (await statIfThere(path))?.isFile === true;

async function statIfThere(path: string): Promise<Deno.FileInfo | undefined> {
  try {
    return await Deno.stat(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

async function* filesBelow(directory: string): AsyncGenerator<string> {
  for await (const { name, isDirectory } of Deno.readDir(directory)) {
    const path = join(directory, name);
    if (isDirectory) yield* filesBelow(path);
    else yield path;
  }
}
