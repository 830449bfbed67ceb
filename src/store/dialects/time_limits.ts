/** How long a caller waits for a database server: seconds, not minutes. */

/** Milliseconds after which a statement, or an attempt to get a connection, is given up. */
export const PATIENCE_MS = 4000;

/** The server did not answer in time. Whether the statement was carried out is not known. */
export class NoAnswer extends Error {
  override name = "NoAnswer";
  constructor() {
    super(`the database server did not answer within ${PATIENCE_MS} ms`);
  }
}
