/** The SAEs of `examples/`, made ready to run where their toolchains are installed. */
import { transformSync } from "amaro";
import { findProgram, runChild } from "../harness/child_process.ts";
import { PROJECT_ROOT } from "../harness/kme_process.ts";
import { pythonWith } from "../harness/python.ts";

export const EXAMPLES = `${PROJECT_ROOT}examples`;

/** A command line. */
export type Command = readonly [program: string, ...args: string[]];

export interface Example {
  /** Directory in `examples/`, and for TypeScript the runtime. */
  readonly name: string;
  /** Why it cannot run here. */
  readonly missing?: string;
  /** `.ci/run` does not install what it needs. */
  readonly optional?: boolean;
  /** Builds it into an empty directory; gives the command to which the arguments are added. */
  prepare(directory: string): Promise<Command>;
}

/** Runs a step of a build. */
async function build(cwd: string, env: Record<string, string>, [program, ...args]: Command): Promise<void> {
  const { code, stdout, stderr } = await runChild(program, { args, cwd, env });
  if (code !== 0) throw new Error(`${program} ${args.join(" ")}: ${stdout}${stderr}`);
}

async function succeeds(program: string | undefined, ...args: string[]): Promise<boolean> {
  return program !== undefined && (await runChild(program, { args })).code === 0;
}

const [go, cargo, node, make, cc, pkgConfig, jq, curl] = [
  findProgram("go", ["/usr/local/go/bin"]),
  findProgram("cargo"),
  findProgram("node"),
  findProgram("make"),
  findProgram("cc"),
  findProgram("pkg-config"),
  findProgram("jq"),
  findProgram("curl"),
];
const python = await pythonWith("requests");
const rust = `${EXAMPLES}/rust/Cargo.toml`;

export const examples: readonly Example[] = [
  {
    name: "python",
    missing: python === undefined ? "no Python with the package requests" : undefined,
    prepare: () => Promise.resolve([python!, `${EXAMPLES}/python/sae.py`]),
  },
  {
    name: "go",
    optional: true,
    missing: go === undefined ? "no Go" : undefined,
    prepare: async (directory) => {
      // The Go that is installed, whatever go.mod asks for; no other one is downloaded.
      await build(`${EXAMPLES}/go`, { GOTOOLCHAIN: "local", GOFLAGS: "-mod=readonly" }, [
        go!,
        "build",
        "-o",
        `${directory}/sae`,
        ".",
      ]);
      return [`${directory}/sae`];
    },
  },
  {
    name: "rust",
    optional: true,
    missing: cargo === undefined
      ? "no Rust"
      : !await succeeds(cargo, "fetch", "--offline", "--manifest-path", rust)
      ? "its packages are not there; run cargo fetch in examples/rust"
      : !await succeeds(pkgConfig, "--exists", "openssl")
      ? "no libssl-dev"
      : undefined,
    prepare: async () => {
      // Kept, since building the packages takes long.
      const target = `${PROJECT_ROOT}tmp/rust`;
      await build(`${EXAMPLES}/rust`, { CARGO_TARGET_DIR: target, CARGO_PROFILE_DEV_DEBUG: "0" }, [
        cargo!,
        "build",
        "--quiet",
        "--offline",
      ]);
      return [`${target}/debug/sae`];
    },
  },
  {
    name: "typescript (Deno)",
    prepare: () => Promise.resolve([Deno.execPath(), "run", "-A", `${EXAMPLES}/typescript/sae.ts`]),
  },
  {
    name: "typescript (Node.js)",
    missing: node === undefined ? "no Node.js" : undefined,
    prepare: async (directory) => {
      // What Node.js from 22.18 does itself: the types are removed, and nothing else is changed.
      const source = await Deno.readTextFile(`${EXAMPLES}/typescript/sae.ts`);
      await Deno.writeTextFile(`${directory}/sae.mjs`, transformSync(source, { mode: "strip-only" }).code);
      return [node!, `${directory}/sae.mjs`];
    },
  },
  {
    name: "c",
    missing: make === undefined || cc === undefined
      ? "no make or C compiler"
      : !await succeeds(pkgConfig, "--exists", "libcurl", "jansson", "libcrypto")
      ? "no libcurl4-openssl-dev, libjansson-dev or libssl-dev"
      : undefined,
    prepare: async (directory) => {
      for (const name of ["sae.c", "Makefile"]) {
        await Deno.copyFile(`${EXAMPLES}/c/${name}`, `${directory}/${name}`);
      }
      await build(directory, {}, [make!]);
      return [`${directory}/sae`];
    },
  },
  {
    name: "curl",
    missing: Deno.build.os === "windows" || curl === undefined || jq === undefined
      ? "no curl or jq"
      : undefined,
    prepare: () => Promise.resolve(["/bin/sh", `${EXAMPLES}/curl/sae.sh`]),
  },
];
