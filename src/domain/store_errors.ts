/** Errors of the store. */

/**
 * The database cannot be used now: it does not answer, is full, locked, or too slow. Unless `nothingDone` is true, the operation
 * may still have been carried out: a key that a slave requested may count as read, and one that a master requested as handed over.
 */
export class StoreUnavailable extends Error {
  override name = "StoreUnavailable";
  /** @param nothingDone whether it is certain that the operation was not started. */
  constructor(cause?: unknown, readonly nothingDone = false) {
    super("the key store is unavailable", { cause });
  }
}

/** The database cannot or must not be used: it belongs to another KME, is newer than the program, is in use, or cannot be opened. */
export class StoreUnusable extends Error {
  override name = "StoreUnusable";
}
