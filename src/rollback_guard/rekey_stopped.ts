/** Encrypts the bits in the database of a stopped KME with a new key. */
import type { Config } from "../config/config.ts";
import { readMasterKey } from "../store/encryption/master_key.ts";
import { rekey, type Rekeyed } from "../store/encryption/rekey.ts";
import { requireDatabase } from "./stopped_database.ts";

export type { Rekeyed };

/**
 * @param newKeyFile the master key from now on; absent: that of the configuration.
 * @throws StoreUnusable, Error of the driver, Error with one line.
 */
export async function rekeyStopped(config: Config, newKeyFile?: string): Promise<Rekeyed> {
  const { database, storeEncryption, id } = config.thisKme;
  if (storeEncryption === undefined) {
    throw new Error("this_kme.store_encryption is missing; set it to the master key first");
  }
  if (database.kind === "memory") throw new Error("the database is in memory; there is nothing to encrypt");
  await requireDatabase(config);
  return await rekey({
    database,
    thisKme: id,
    masterKey: await readMasterKey(storeEncryption),
    newMasterKey: newKeyFile === undefined
      ? undefined
      : await readMasterKey({ kind: "file", path: newKeyFile }),
  });
}
