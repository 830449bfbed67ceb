/** How many connections the listeners may have, from the number of files that the process may open. */

/** A connection, its pipe to the inner HTTP server, and the other end of the pipe. */
const FILES_A_CONNECTION = 3;

/** Files for the database, key files, the log, the console and the runtime. */
const FILES_BESIDE = 150;

/** Files for the connections with one neighbour. */
const FILES_A_NEIGHBOUR = 40;

export interface ConnectionLimits {
  readonly maxConnections: number;
  readonly maxHandshakes: number;
  /** Connections that wait to be accepted; all of them may be accepted at once, before any is refused. */
  readonly backlog: number;
}

/** Without a limit of the process, or with a high one. */
const MOST: ConnectionLimits = { maxConnections: 10_000, maxHandshakes: 1_000, backlog: 511 };

/**
 * @param maxFiles files that the process may open; absent: unknown.
 * @param neighbours KMEs that are called.
 * @param skip whether there is a listener for SKIP.
 */
export function connectionLimits(
  maxFiles: number | undefined,
  neighbours: number,
  skip: boolean,
): { readonly sae: ConnectionLimits; readonly kme: ConnectionLimits; readonly skip: ConnectionLimits } {
  if (maxFiles === undefined) return { sae: MOST, kme: MOST, skip: MOST };
  const backlog = Math.min(MOST.backlog, Math.max(8, Math.floor(maxFiles / 16)));
  const waiting = (skip ? 3 : 2) * backlog;
  const files = Math.max(60, maxFiles - FILES_BESIDE - neighbours * FILES_A_NEIGHBOUR - waiting);
  const share = (part: number): ConnectionLimits => ({
    maxConnections: Math.min(MOST.maxConnections, Math.floor(files * part * 0.75 / FILES_A_CONNECTION)),
    maxHandshakes: Math.min(MOST.maxHandshakes, Math.floor(files * part * 0.15)),
    backlog,
  });
  // The rest of the files is for clients that are refused, which are told why.
  return { sae: share(skip ? 1 / 3 : 2 / 3), kme: share(1 / 3), skip: share(skip ? 1 / 3 : 0) };
}
