/** Networks and files for the tests of the certificate tool. */
import JSON5 from "json5";
import type { NetworkFile } from "../../../src/tools/certs/network_file.ts";

export const HOSTS = ["localhost", "127.0.0.1", "::1"];

/** KME 1 with SAEs 1 and 2, KME 2 with SAE 3. */
export function twoKmes(): NetworkFile {
  return {
    organization: "TEST ONLY",
    kmes: [
      {
        id: 1,
        nickname: "Alice",
        saes_interface: { hosts: HOSTS, port: 13000 },
        kmes_interface: { hosts: HOSTS, port: 13001 },
        saes: [{ id: 1 }, { id: 2 }],
      },
      {
        id: 2,
        nickname: "Bob",
        saes_interface: { hosts: HOSTS, port: 14000 },
        kmes_interface: { hosts: HOSTS, port: 14001 },
        saes: [{ id: 3 }],
      },
    ],
  };
}

/** Contents and times of all files below a directory, by path below it. */
export async function filesOf(directory: string, below = ""): Promise<Map<string, string>> {
  const files = new Map<string, string>();
  for await (const entry of Deno.readDir(`${directory}/${below}`)) {
    const path = `${below}${entry.name}`;
    if (entry.isDirectory) {
      for (const [inner, content] of await filesOf(directory, `${path}/`)) files.set(inner, content);
    } else {
      const { mtime, ino } = await Deno.stat(`${directory}/${path}`);
      const bytes = await Deno.readFile(`${directory}/${path}`);
      files.set(path, `${mtime?.getTime()} ${ino} ${bytes.toBase64()}`);
    }
  }
  return files;
}

/** Paths that are not the same in both, or only in one. */
export function differences(before: Map<string, string>, after: Map<string, string>): string[] {
  const paths = new Set([...before.keys(), ...after.keys()]);
  return [...paths].filter((path) => before.get(path) !== after.get(path)).sort();
}

// deno-lint-ignore no-explicit-any
export async function readJson5(path: string): Promise<any> {
  return JSON5.parse(await Deno.readTextFile(path));
}

/** Copies the files of a directory, those of its directories too. */
export async function copy(from: URL, to: string): Promise<void> {
  await Deno.mkdir(to, { recursive: true });
  for await (const entry of Deno.readDir(from)) {
    if (entry.isDirectory) await copy(new URL(`${entry.name}/`, from), `${to}/${entry.name}`);
    else await Deno.copyFile(new URL(entry.name, from), `${to}/${entry.name}`);
  }
}
