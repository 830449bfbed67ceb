/**
 * Writes the packages in the program as a CycloneDX 1.6 SBOM, made from `deno.lock`: `sbom.ts [FILE]`, or to the standard
 * output. Packages that only development needs are listed with the scope `excluded`.
 */
import { Buffer } from "node:buffer";
import { join } from "node:path";
import { VERSION } from "../src/version.ts";
import { npmPackages, ROOT, runDeno, WORKERS } from "./npm_files.ts";

/** `npm` of `deno.lock`: by `NAME@VERSION`, with `_PEER@VERSION` behind it where peers were chosen. */
type Lock = Readonly<
  Record<string, { readonly integrity: string; readonly dependencies?: readonly string[] }>
>;

interface Component {
  readonly type: "library";
  readonly "bom-ref": string;
  readonly name: string;
  readonly version: string;
  readonly purl: string;
  readonly scope: "required" | "excluded";
  readonly hashes: readonly [{ readonly alg: "SHA-512"; readonly content: string }];
  readonly licenses?: readonly [{ readonly expression: string }];
}

/** @returns the SBOM; the same for the same sources. */
export async function makeSbom(): Promise<Record<string, unknown>> {
  const lock: Lock = JSON.parse(await Deno.readTextFile(join(ROOT, "deno.lock"))).npm;
  const [required, licences] = [await packagesOfProgram(), await licencesOfPackages()];
  const refs = new Map(Object.keys(lock).map((id) => [id, purlOf(id)]));
  const components = Object.entries(lock).map(([id, { integrity }]): Component => {
    const { name, version } = splitId(id);
    const licence = licences.get(`${name}@${version}`);
    return {
      type: "library",
      "bom-ref": refs.get(id)!,
      name,
      version,
      purl: refs.get(id)!,
      scope: required.has(`${name}@${version}`) ? "required" : "excluded",
      hashes: [{ alg: "SHA-512", content: sha512Of(integrity) }],
      ...licence === undefined ? {} : { licenses: [{ expression: licence }] },
    };
  });
  const program = {
    type: "application",
    "bom-ref": `kme@${VERSION}`,
    name: "kme",
    version: VERSION,
    licenses: [{ expression: "MIT" }],
  };
  const direct = Object.entries(JSON.parse(await Deno.readTextFile(join(ROOT, "deno.json"))).imports)
    .map(([, specifier]) => /^npm:(@?[^@]+@[^/]+)/.exec(specifier as string)![1]!);
  return {
    bomFormat: "CycloneDX",
    specVersion: "1.6",
    version: 1,
    metadata: { component: program },
    components,
    dependencies: [
      { ref: program["bom-ref"], dependsOn: unique(direct.map((id) => refs.get(findId(lock, id))!)) },
      ...Object.entries(lock).map(([id, { dependencies = [] }]) => ({
        ref: refs.get(id)!,
        dependsOn: unique(dependencies.map((dependency) => refs.get(findId(lock, dependency))!)),
      })),
    ],
  };
}

/** The key of the lock for `NAME@VERSION`, or for `NAME` where there is one version only. */
function findId(lock: Lock, dependency: string): string {
  const found = Object.keys(lock).find((id) => {
    const { name, version } = splitId(id);
    return id === dependency || `${name}@${version}` === dependency || name === dependency;
  });
  if (found === undefined) throw new Error(`deno.lock does not have ${dependency}`);
  return found;
}

function splitId(id: string): { name: string; version: string } {
  const [, name, version] = /^(@?[^@]+)@([^_]+)/.exec(id)!;
  return { name: name!, version: version! };
}

function purlOf(id: string): string {
  const { name, version } = splitId(id);
  return `pkg:npm/${name.replace("@", "%40")}@${version}`;
}

function sha512Of(integrity: string): string {
  return Buffer.from(integrity.replace(/^sha512-/, ""), "base64").toString("hex");
}

function unique(refs: readonly string[]): string[] {
  return [...new Set(refs)].sort();
}

interface Graph {
  readonly modules: readonly { readonly npmPackage?: string }[];
  readonly npmPackages: Readonly<
    Record<
      string,
      { readonly name: string; readonly version: string; readonly dependencies: readonly string[] }
    >
  >;
}

/** `NAME@VERSION` of what the program imports, and of what that needs. */
async function packagesOfProgram(): Promise<Set<string>> {
  const needed = new Set<string>();
  const add = (graph: Graph, id: string) => {
    const found = graph.npmPackages[id];
    if (found === undefined || needed.has(`${found.name}@${found.version}`)) return;
    needed.add(`${found.name}@${found.version}`);
    for (const dependency of found.dependencies) add(graph, dependency);
  };
  for (const module of ["src/main.ts", ...WORKERS]) {
    const graph: Graph = JSON.parse(await runDeno(["info", "--json", module]));
    for (const { npmPackage } of graph.modules) if (npmPackage !== undefined) add(graph, npmPackage);
  }
  return needed;
}

/** SPDX expressions by `NAME@VERSION`, as the packages themselves say. */
async function licencesOfPackages(): Promise<Map<string, string>> {
  const licences = new Map<string, string>();
  for (const { name, version, localPath } of await npmPackages()) {
    const path = join(localPath, "package.json");
    const license = await Deno.readTextFile(path).then((text) => JSON.parse(text).license).catch((error) => {
      throw new Error(`${path}: ${error.message}`, { cause: error });
    });
    if (typeof license === "string") licences.set(`${name}@${version}`, license);
  }
  return licences;
}

if (import.meta.main) {
  const text = JSON.stringify(await makeSbom(), undefined, 2) + "\n";
  if (Deno.args[0] === undefined) console.log(text.trimEnd());
  else await Deno.writeTextFile(Deno.args[0], text);
}
