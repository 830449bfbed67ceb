/**
 * Compiles the program into one file: `compile.ts [--all | TARGET...] [--out DIRECTORY]`.
 *
 * Without arguments: `./kme` for this host. With targets: `DIRECTORY/kme-TARGET` (`dist` by default) for each, and
 * `SHA256SUMS`. Deno downloads the runtime of each target, `denort`, unless `DENORT_BIN_<TARGET>` (as in
 * `DENORT_BIN_LINUX_X64`) names the file, or `KME_DENORT_DIR` a directory with `denort-TRIPLE` (`.exe` for Windows).
 */
import { createHash } from "node:crypto";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { isFile, ROOT, runDeno, stagePackages, WORKERS } from "./npm_files.ts";
import { findTarget, hostTarget, type Target, TARGETS } from "./targets.ts";

/** The runtime for a target; absent when Deno is to download it. */
export async function findRuntime(
  target: Target,
  env: Readonly<Record<string, string | undefined>>,
): Promise<string | undefined> {
  const own = env[`DENORT_BIN_${target.name.toUpperCase().replaceAll("-", "_")}`];
  if (own) return own;
  if (!env.KME_DENORT_DIR) return env.DENORT_BIN || undefined;
  const path = join(env.KME_DENORT_DIR, `denort-${target.triple}${target.suffix}`);
  await Deno.stat(path).catch((error) => {
    throw new Error(`${path} is missing; see "The single binary" in docs/operations.md`, { cause: error });
  });
  return path;
}

/**
 * Puts the program and what it needs on `target` into one file.
 *
 * @param runtime the executable into which it is put; absent when Deno is to download it.
 * @param format the platform whose executables have the format of `runtime`.
 */
export async function embed(
  target: Target,
  output: string,
  runtime: string | undefined,
  format: Target = target,
): Promise<void> {
  const staged = await Deno.makeTempDir({ prefix: "kme-compile-" });
  try {
    await stagePackages(target, staged);
    const args = [
      "--quiet",
      "--allow-all",
      "--no-check",
      "--frozen",
      "--no-code-cache",
      "--exclude-unused-npm",
    ];
    args.push(...WORKERS.flatMap((module) => ["--include", module]));
    args.push("--target", format.triple, "--output", resolve(output), "src/main.ts");
    await runDeno(["compile", ...args], {
      DENO_DIR: staged,
      ...runtime === undefined ? {} : { DENORT_BIN: resolve(runtime) },
    }).catch((error: Error) => {
      if (runtime !== undefined) throw error;
      throw new Error(`${error.message}; without internet access set KME_DENORT_DIR; see docs/operations.md`);
    });
  } finally {
    await Deno.remove(staged, { recursive: true });
  }
}

async function compile(target: Target, output: string): Promise<void> {
  await embed(target, output, await findRuntime(target, Deno.env.toObject()));
}

async function sha256(path: string): Promise<string> {
  const hash = createHash("sha256");
  using file = await Deno.open(path);
  for await (const chunk of file.readable) hash.update(chunk);
  return hash.digest("hex");
}

/**
 * Writes `SHA256SUMS` of a directory: lines for these files, and those for other files that it had already and that are
 * still there.
 */
export async function writeChecksums(directory: string, names: readonly string[]): Promise<void> {
  const path = join(directory, "SHA256SUMS");
  const old = await Deno.readTextFile(path).catch((error) => {
    if (error instanceof Deno.errors.NotFound) return "";
    throw error;
  });
  const lines = new Map(old.split("\n").filter(Boolean).map((line) => [line.slice(66), line]));
  for (const name of lines.keys()) if (!await isFile(join(directory, name))) lines.delete(name);
  for (const name of names) lines.set(name, `${await sha256(join(directory, name))}  ${name}`);
  const sorted = [...lines].sort(([a], [b]) => a < b ? -1 : 1).map(([, line]) => `${line}\n`);
  await Deno.writeTextFile(path, sorted.join(""));
}

async function main(args: string[]): Promise<void> {
  const { values, positionals } = parseArgs({
    args,
    options: { all: { type: "boolean" }, out: { type: "string" } },
    allowPositionals: true,
  });
  if (!values.all && positionals.length === 0) {
    const host = hostTarget();
    const path = join(values.out ?? ROOT, `kme${host.suffix}`);
    await compile(host, path);
    console.log(path);
    return;
  }
  const out = values.out ?? join(ROOT, "dist");
  await Deno.mkdir(out, { recursive: true });
  const built: string[] = [];
  for (const target of values.all ? TARGETS : positionals.map(findTarget)) {
    const name = `kme-${target.name}${target.suffix}`;
    const path = join(out, name);
    await compile(target, path);
    built.push(name);
    console.log(`${path}: ${((await Deno.stat(path)).size / 1e6).toFixed(1)} MB`);
  }
  await writeChecksums(out, built);
}

if (import.meta.main) {
  try {
    await main(Deno.args);
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    Deno.exit(1);
  }
}
