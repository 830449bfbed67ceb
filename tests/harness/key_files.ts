/** What is in the key directories of a KME. */
import { blockKeyId, formatKeyId } from "../../src/domain/block.ts";
import { eventually } from "./eventually.ts";
import { keysOf, type SaeResponse } from "./sae_client.ts";

/** Names of the key files (`*.cor`) that are there; the KME's own record of ingested files is none. */
export async function keyFilesIn(directory: string): Promise<string[]> {
  const entries = await Array.fromAsync(Deno.readDir(directory));
  return entries.map(({ name }) => name).filter((name) => name.endsWith(".cor"));
}

/** Resolves when every key file of the directories has been ingested: it is deleted then. */
export async function allIngested(directories: Iterable<string>): Promise<void> {
  for (const directory of directories) {
    await eventually(
      async () => (await keyFilesIn(directory)).length === 0,
      { what: `the ingestion of the key files in ${directory}`, timeout: 30_000 },
    );
  }
}

/** The names of the blocks that the keys of an answer are, each one block as it is. */
export function blockIdsOf(response: SaeResponse): string[] {
  return keysOf(response).map(({ key }) => formatKeyId(blockKeyId(Uint8Array.fromBase64(key))));
}
