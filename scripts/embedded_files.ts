/** What is in a compiled file. */
import { Buffer } from "node:buffer";

type Entry =
  | { readonly Dir: { readonly n: string; readonly e: readonly Entry[] } }
  | { readonly File: { readonly n: string; readonly o: readonly [offset: number, length: number] } };

export interface EmbeddedFile {
  /** With slashes; npm packages are in `NAME/VERSION/`. */
  readonly path: string;
  /** Bytes. */
  readonly size: number;
}

const PACKAGES = ".deno_compile_node_modules/localhost/";

/**
 * Lists the files that `deno compile` put into a file: it writes their tree as JSON, after its length in 8 bytes.
 *
 * @throws Error when there is no such tree.
 */
export async function embeddedFiles(executable: string): Promise<EmbeddedFile[]> {
  const bytes = Buffer.from((await Deno.readFile(executable)).buffer);
  const start = bytes.indexOf('[{"Dir":{"n":".deno_compile_node_modules"');
  if (start < 8) throw new Error(`no files are embedded in ${executable}`);
  const length = Number(bytes.readBigUInt64LE(start - 8));
  const tree: Entry[] = JSON.parse(bytes.toString("utf8", start, start + length));
  return [...filesOf(tree, "")].map(({ path, size }) => ({
    path: path.startsWith(PACKAGES) ? path.slice(PACKAGES.length) : path,
    size,
  }));
}

function* filesOf(entries: readonly Entry[], directory: string): Generator<EmbeddedFile> {
  for (const entry of entries) {
    if ("Dir" in entry) yield* filesOf(entry.Dir.e, `${directory}${entry.Dir.n}/`);
    else if ("File" in entry) yield { path: directory + entry.File.n, size: entry.File.o[1] };
  }
}
