/** The database of a KME that does not run, for commands that change it. */
import { resolve } from "node:path";
import type { Config } from "../config/config.ts";
import { isNeighbour } from "../domain/network.ts";
import { StoreUnusable } from "../domain/store_errors.ts";
import { inspectDatabase, type Inspection, type InspectionOptions } from "../store/inspection.ts";
import { OPENING_LEASE_MS } from "../store/operations/leases.ts";
import { Store } from "../store/store.ts";
import { markerPath } from "./marker.ts";

/**
 * Looks at the database; nothing is created or changed.
 *
 * @returns `undefined` when there is none yet.
 * @throws StoreUnusable, Error of the driver.
 */
export async function inspectStopped(
  config: Config,
  options: InspectionOptions,
): Promise<Inspection & { kind: "seen" } | undefined> {
  await requireDatabase(config);
  const inspection = await inspectDatabase(config.thisKme.database, options);
  switch (inspection.kind) {
    case "absent":
      return undefined;
    case "inUse":
      throw new StoreUnusable("the database is in use by another process; stop the KME and try again");
    case "seen": {
      const { kme, processes, schema } = inspection;
      const { id } = config.thisKme;
      if (kme !== undefined && kme !== id.text) {
        throw new StoreUnusable(`the database belongs to KME ${kme}, not to KME ${id.text}`);
      }
      if (schema.unknown.length > 0) {
        throw new StoreUnusable("the database was made by a newer version of this program");
      }
      refuseProcesses(processes);
      return inspection;
    }
  }
}

/**
 * A file that does not exist holds nothing: most likely its relative path means another directory.
 *
 * @throws StoreUnusable
 */
export async function requireDatabase({ thisKme: { database, ...thisKme } }: Config): Promise<void> {
  if (database.kind !== "sqlite") return;
  const marker = markerPath({ thisKme: { ...thisKme, database } })!;
  for (const path of [database.path, marker]) {
    try {
      await Deno.stat(path);
      return;
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  throw new StoreUnusable(
    `there is no database ${resolve(database.path)}; run it in the working directory of the KME`,
  );
}

function refuseProcesses(processes: number): void {
  if (processes === 0) return;
  const s = processes === 1 ? "" : "es";
  throw new StoreUnusable(
    `${processes} process${s} of this KME still use${processes === 1 ? "s" : ""} ` +
      "the database, or did a moment ago; stop the KME and try again",
  );
}

/**
 * Opens the database for this process alone.
 *
 * @param encryption `discard`: all bits are to be removed, so the master key is not needed.
 * @throws StoreUnusable when another process of this KME uses it.
 */
export async function openStopped({ thisKme, otherKmes }: Config, encryption?: "discard") {
  const store = await Store.open({
    database: thisKme.database,
    encryption: encryption ?? thisKme.storeEncryption,
    thisKme: thisKme.id,
    neighbours: otherKmes.filter(isNeighbour).map((kme) => kme.id),
  });
  // Like a heartbeat, so that no key of the database is changed while a long command uses it.
  let renewing: Promise<unknown> = Promise.resolve();
  const timer = setInterval(
    () => renewing = store.renewLease(OPENING_LEASE_MS, []).catch(() => {}),
    OPENING_LEASE_MS / 4,
  );
  const close = async () => {
    clearInterval(timer);
    await renewing;
    await store.close();
  };
  try {
    refuseProcesses(await store.livingProcesses());
  } catch (error) {
    await close();
    throw error;
  }
  return { store, [Symbol.asyncDispose]: close };
}
