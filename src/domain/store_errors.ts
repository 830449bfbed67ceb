/** What can go wrong in the store, as the rest of the program sees it. */

/**
 * The database cannot be used now: gone, full, locked, or too slow. What was asked for may be done all the same, where it was
 * under way when patience ended: then a key that a slave asked for is read, and one that a master asked for is spent.
 */
export class StoreUnavailable extends Error {
  override name = "StoreUnavailable";
  constructor(cause?: unknown) {
    super("the key store is unavailable", { cause });
  }
}

/** The database was opened but must not be used: of another KME, newer than the program, or in use by another process. */
export class StoreUnusable extends Error {
  override name = "StoreUnusable";
}
