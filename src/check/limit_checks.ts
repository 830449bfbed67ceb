/** Checks the limits that the operating system sets for this process. */
import { maxOpenFiles } from "../metrics/process.ts";
import { connectionLimits } from "../tls/connection_limits.ts";
import { type CheckLine, ok, warn } from "./check_line.ts";

/** Fewer connections than this are warned of. */
const FEW_CONNECTIONS = 2000;

/**
 * @param neighbours KMEs that are called.
 * @param hasSkip whether there is a listener for SKIP.
 * @param limit open files of this process at most; absent: unknown, as on systems other than Linux.
 */
export function checkOpenFiles(
  neighbours: number,
  hasSkip: boolean,
  limit: number | undefined = maxOpenFiles(),
): CheckLine[] {
  if (limit === undefined) return [];
  const { sae, kme, skip } = connectionLimits(limit, neighbours, hasSkip);
  const connections = sae.maxConnections + kme.maxConnections + skip.maxConnections;
  const found = `this process may open ${limit} files, enough for ${sae.maxConnections} connections of SAEs` +
    `${hasSkip ? `, ${skip.maxConnections} of SKIP clients` : ""} and ${kme.maxConnections} of other KMEs`;
  return [
    connections >= FEW_CONNECTIONS ? ok("open files", found) : warn(
      "open files",
      found,
      "start the KME with a higher limit, as with LimitNOFILE=65536 in its systemd unit or ulimit -n 65536",
    ),
  ];
}
