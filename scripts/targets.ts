/** The platforms for which the program is built. */

export interface Target {
  /** As in the names of released files. */
  readonly name: string;
  /** As Deno names it. */
  readonly triple: string;
  /** Name of SQLite's prebuilt addon, without `.node`. */
  readonly addon: string;
  /** End of the executable's name. */
  readonly suffix: "" | ".exe";
}

export const TARGETS: readonly Target[] = [
  { name: "linux-x64", triple: "x86_64-unknown-linux-gnu", addon: "linux-x64", suffix: "" },
  { name: "linux-arm64", triple: "aarch64-unknown-linux-gnu", addon: "linux-arm64", suffix: "" },
  { name: "windows-x64", triple: "x86_64-pc-windows-msvc", addon: "win32-x64", suffix: ".exe" },
  { name: "macos-x64", triple: "x86_64-apple-darwin", addon: "darwin-x64", suffix: "" },
  { name: "macos-arm64", triple: "aarch64-apple-darwin", addon: "darwin-arm64", suffix: "" },
];

/** @throws Error when the program is not built for this platform. */
export function hostTarget(): Target {
  const target = TARGETS.find(({ triple }) => triple === Deno.build.target);
  if (target === undefined) throw new Error(`the program is not built for ${Deno.build.target}`);
  return target;
}

/** @throws Error that lists the targets. */
export function findTarget(name: string): Target {
  const target = TARGETS.find((each) => each.name === name);
  if (target === undefined) {
    throw new Error(`no target ${name}; targets are ${TARGETS.map(({ name }) => name).join(", ")}`);
  }
  return target;
}
