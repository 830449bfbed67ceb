/** The parts of the suite, each with a task of its own in `deno.json`. */

/** Directories and files in `tests/`, by part. Every test file is in exactly one of them. */
export const PARTS: Readonly<Record<string, readonly string[]>> = {
  unit: ["architecture_test.ts", "config", "domain", "harness_test", "tools", "x509"],
  api: ["conformance", "sae_api", "skip_api", "tls"],
  network: ["delivery", "inter_kme"],
  store: ["ingest", "rollback_guard", "store"],
  durability: ["bench", "durability", "soak"],
  console: ["console", "metrics"],
  cli: ["audit", "check", "cli", "examples", "release", "reload"],
};

/**
 * Files, relative to `tests/`, that are run one after the other: they set time limits of well under a second, or change what
 * belongs to the whole process, such as its user.
 */
export const ALONE: readonly string[] = [
  "audit/directory_sync_test.ts",
  "check/environment_test.ts",
  "config/load_test.ts",
  "store/store_thread_test.ts",
  "tls/deadlines_test.ts",
];

/** Variable that is set while files run beside each other, in one process. */
export const IN_PARALLEL = "KME_TEST_IN_PARALLEL";

/** Files that take longest, in this order: they are begun first, so that none of them is left over at the end. */
export const LONGEST: readonly string[] = [
  "examples/examples_test.ts",
  "durability/kill_test.ts",
  "durability/device_kill_test.ts",
  "durability/replica_test.ts",
  "delivery/network_failures_test.ts",
  "store/model_test.ts",
  "store/kme_outage_test.ts",
  "durability/lost_answer_test.ts",
  "rollback_guard/burn_test.ts",
  "store/store_outage_test.ts",
  "inter_kme/crash_test.ts",
  "bench/configurations_test.ts",
];

/** Test files below `root`, which ends with a slash, relative to it and sorted. */
export function testFiles(root: string, path: string): string[] {
  if (path.endsWith("_test.ts")) return [path];
  let entries: Deno.DirEntry[];
  try {
    entries = [...Deno.readDirSync(root + path)];
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
  return entries.toSorted((a, b) => a.name < b.name ? -1 : 1).flatMap(({ name, isDirectory }) =>
    isDirectory || name.endsWith("_test.ts") ? testFiles(root, path === "" ? name : `${path}/${name}`) : []
  );
}
