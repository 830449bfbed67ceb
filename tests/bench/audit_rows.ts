/** What the audit log costs: each record durable before the answer, against the same KME without it. */
import type { ConfigFile } from "../harness/test_network.ts";
import { compare, interleave, type Target } from "./comparison.ts";
import { POOL, TIMES } from "./options.ts";
import type { Row } from "./row.ts";
import { type Request, Site } from "./site.ts";

const REQUESTS: Record<string, Request> = {
  "enc_keys, one KME": { way: "enc", slave: "local" },
  "enc_keys then dec_keys, one KME": { way: "enc+dec", slave: "local" },
  "enc_keys over two KMEs": { way: "enc", slave: "remote" },
};

function withAuditLog({ this_kme }: ConfigFile): void {
  const directory = `${this_kme.key_directory_to_watch}/../audit`;
  Deno.mkdirSync(directory, { recursive: true });
  this_kme.audit_log = { directory };
}

export async function audit(): Promise<Row[]> {
  await using without = await Site.make(["sqlite", "sqlite"]);
  await using recorded = await Site.make(["sqlite", "sqlite"], { edit: withAuditLog });
  const targets = Object.entries(REQUESTS).flatMap(([name, request]) =>
    [[name, without], [`${name}, recorded`, recorded]].map(([name, site]): Target => ({
      name: name as string,
      run: () => (site as Site).runAfresh(request, TIMES, POOL),
    }))
  );
  const row = compare(await interleave(targets));
  return Object.keys(REQUESTS).map((name, i) =>
    row(
      `${name}, SQLite files, with an audit log against without`,
      "requests/s",
      `${name}, recorded`,
      name,
      i === 0 ? { atLeast: 0.85 } : undefined,
    )
  );
}
