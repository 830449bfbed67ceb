/** What differs between operating systems. */
import { constants } from "node:fs";

/**
 * Flags to open a file for reading without following a symbolic link and without waiting for the writer of a pipe. Windows
 * has neither flag: there a caller compares the open file with what `lstat` says of the path.
 */
export const OPEN_REGULAR_FILE: number = constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) |
  (constants.O_NONBLOCK ?? 0);
