/** Encryption of the stored bits of a KME, and damage to them. */
import Sqlite from "better-sqlite3";
import { randomBytes } from "node:crypto";
import type { TestId, TestNetwork } from "./test_network.ts";

/** Gives a KME a master key of its own; from its next start on it encrypts what it stores. Returns the path of the key file. */
export async function encryptStore(network: TestNetwork, kme: TestId): Promise<string> {
  const path = `${network.kme(kme).directory}/test-store.key`;
  await Deno.writeTextFile(path, randomBytes(32).toString("hex"), { mode: 0o600 });
  await network.writeConfig(kme, ({ this_kme }) => this_kme.store_encryption = { key_file: path });
  return path;
}

/**
 * Alters stored bits.
 *
 * @param kme one whose database is `sqlite`, and whose process has ended.
 * @param where which rows of `blocks`, in SQL.
 */
export function damageBits(kme: { readonly directory: string }, where: string): void {
  const database = new Sqlite(`${kme.directory}/kme.db`);
  try {
    database.exec(`update blocks set bits = zeroblob(length(bits)) where bits is not null and ${where}`);
  } finally {
    database.close();
  }
}
