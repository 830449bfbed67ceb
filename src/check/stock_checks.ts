/** Checks that both ends of each link have the same blocks, as the running KME has found. */
import type { Config } from "../config/config.ts";
import { askStatus, consoleUrl } from "../console/status_client.ts";
import { isNeighbour } from "../domain/network.ts";
import type { LinkStatus } from "../metrics/kme_status.ts";
import { type CheckLine, ok, warn } from "./check_line.ts";

/** Files that a line names. */
const MAX_NAMES = 3;

/** One line for each link. The database of a running KME is not touched: its console is queried. */
export async function checkStocks({ thisKme, otherKmes }: Config): Promise<CheckLine[]> {
  const links = await linksOfRunning(thisKme);
  return otherKmes.filter(isNeighbour).map(({ id }) => {
    const what = `KME ${id.text}: blocks`;
    if (typeof links === "string") return ok(what, `not compared: ${links}`);
    return checkLink(what, id.text, links.find(({ kme }) => kme === id.text));
  });
}

/** The links of the running KME, or why they are not known. */
async function linksOfRunning(
  { id, consoleInterface }: Config["thisKme"],
): Promise<readonly LinkStatus[] | string> {
  if (consoleInterface === undefined) return "only a KME with a debugging_http_interface can be queried";
  try {
    const status = await askStatus(consoleUrl(consoleInterface));
    return status.kme === id.text ? status.links : "another KME answers at debugging_http_interface";
  } catch {
    return "this KME does not run; its blocks are compared while it runs";
  }
}

function checkLink(what: string, kme: string, link: LinkStatus | undefined): CheckLine {
  const { comparedAt, unmatched = 0, unmatchedSince, unmatchedFiles = [] } = link ?? {};
  if (!comparedAt) return ok(what, `not compared yet, or KME ${kme} does not tell what it has`);
  if (!unmatchedSince && unmatched > 0) {
    return ok(what, `${unmatched} blocks came a moment ago and are not at the other end yet`);
  }
  if (!unmatchedSince) return ok(what, `both ends had the same blocks at ${comparedAt}`);
  const names = unmatchedFiles.slice(0, MAX_NAMES)
    .map(({ name, here, there }) => `${name} (${here} here, ${there} there)`);
  const more = unmatchedFiles.length > MAX_NAMES ? ", ..." : "";
  return warn(
    what,
    `since ${unmatchedSince} the two ends have different blocks: ${names.join(", ")}${more}`,
    "copy each of these files to both ends, or see kme link forget",
  );
}
