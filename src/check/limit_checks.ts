/** Checks the limits that the operating system sets for this process. */
import { maxOpenFiles } from "../metrics/process.ts";
import { type CheckLine, ok, warn } from "./check_line.ts";

/** A connection, its pipe to the HTTP server, and the other end of the pipe. */
const FILES_A_CONNECTION = 3;

/** Files for the database, key files, logs and the runtime. */
const FILES_BESIDE = 100;

/** Fewer connections than this are warned of. */
const FEW_CONNECTIONS = 2000;

/** @param limit open files of this process at most; absent: unknown, as on systems other than Linux. */
export function checkOpenFiles(limit: number | undefined = maxOpenFiles()): CheckLine[] {
  if (limit === undefined) return [];
  const connections = Math.max(0, Math.floor((limit - FILES_BESIDE) / FILES_A_CONNECTION));
  const found = `this process may open ${limit} files, enough for about ${connections} connections`;
  return [
    connections >= FEW_CONNECTIONS ? ok("open files", found) : warn(
      "open files",
      found,
      "start the KME with a higher limit, as with LimitNOFILE=65536 in its systemd unit or ulimit -n 65536",
    ),
  ];
}
