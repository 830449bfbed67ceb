/** How many connections the listeners may have, from the number of files that the process may open. */

/** A connection, its pipe to the inner HTTP server, and the other end of the pipe. */
const FILES_A_CONNECTION = 3;

/** Files for the database, key files, the log and the runtime. */
const FILES_BESIDE = 130;

/** Files for the connections with one neighbour. */
const FILES_A_NEIGHBOUR = 40;

export interface ConnectionLimits {
  readonly maxConnections: number;
  readonly maxHandshakes: number;
  /** Connections that wait to be accepted; all of them may be accepted at once, before any is refused. */
  readonly backlog: number;
}

/** Connections at the console: of so many files one, within these bounds. A browser opens up to six. */
const FILES_A_CONSOLE_CONNECTION = 24;
const CONSOLE_CONNECTIONS = { least: 8, most: 200 };

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
): {
  readonly sae: ConnectionLimits;
  readonly kme: ConnectionLimits;
  readonly skip: ConnectionLimits;
  readonly console: Omit<ConnectionLimits, "maxHandshakes">;
} {
  const { least, most } = CONSOLE_CONNECTIONS;
  if (maxFiles === undefined) {
    return { sae: MOST, kme: MOST, skip: MOST, console: { maxConnections: most, backlog: MOST.backlog } };
  }
  const console = {
    maxConnections: Math.min(most, Math.max(least, Math.floor(maxFiles / FILES_A_CONSOLE_CONNECTION))),
    backlog: Math.min(MOST.backlog, Math.max(8, Math.floor(maxFiles / 32))),
  };
  const backlog = Math.min(MOST.backlog, Math.max(8, Math.floor(maxFiles / 16)));
  const waiting = (skip ? 3 : 2) * backlog;
  const forConsole = FILES_A_CONNECTION * console.maxConnections + console.backlog;
  const files = Math.max(60, maxFiles - FILES_BESIDE - neighbours * FILES_A_NEIGHBOUR - waiting - forConsole);
  const share = (part: number): ConnectionLimits => ({
    maxConnections: Math.min(MOST.maxConnections, Math.floor(files * part * 0.75 / FILES_A_CONNECTION)),
    maxHandshakes: Math.min(MOST.maxHandshakes, Math.floor(files * part * 0.15)),
    backlog,
  });
  // The rest of the files is for clients that are refused, which are told why.
  return { sae: share(skip ? 1 / 3 : 2 / 3), kme: share(1 / 3), skip: share(skip ? 1 / 3 : 0), console };
}
