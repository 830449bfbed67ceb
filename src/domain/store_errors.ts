/** What can go wrong in the store, as the rest of the program sees it. */

/**
 * The database cannot be used now: it is away, full, locked, or too slow. What was asked for may have been done all the same, unless
 * `nothingDone` is true: a key that a slave asked for may count as read, and one that a master asked for as handed over.
 */
export class StoreUnavailable extends Error {
  override name = "StoreUnavailable";
  /** @param nothingDone whether it is certain that nothing was begun. */
  constructor(cause?: unknown, readonly nothingDone = false) {
    super("the key store is unavailable", { cause });
  }
}

/** The database was opened but must not be used: of another KME, newer than the program, or in use by another process. */
export class StoreUnusable extends Error {
  override name = "StoreUnusable";
}
