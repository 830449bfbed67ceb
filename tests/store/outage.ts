/** Ways in which a database server goes away, and comes back. */
import type { TestDatabaseServer } from "../harness/databases.ts";
import { hasProcessTree } from "../harness/process_tree.ts";

export interface Outage {
  readonly name: string;
  begin(server: TestDatabaseServer): Promise<void> | void;
  end(server: TestDatabaseServer): Promise<void> | void;
}

export const OUTAGES: readonly Outage[] = [
  { name: "is stopped", begin: (server) => server.stop(), end: (server) => server.start() },
  { name: "is killed", begin: (server) => server.kill(), end: (server) => server.start() },
  ...hasProcessTree
    ? [{
      name: "hangs",
      begin: (server: TestDatabaseServer) => server.pause(),
      end: (server: TestDatabaseServer) => server.resume(),
    }]
    : [],
];
