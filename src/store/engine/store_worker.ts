/** The thread of an SQLite database. */
import { sqliteDialect } from "../dialects/sqlite.ts";
import { type MessageEnd, serveStore } from "./serve_worker.ts";

serveStore(self as unknown as MessageEnd, sqliteDialect);
