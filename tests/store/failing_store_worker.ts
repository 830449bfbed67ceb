/** A database's thread whose tables a test looks through, and that it stops: by a port of its own. */
import { CompiledQuery, Kysely } from "kysely";
import { sqliteDialect } from "../../src/store/dialects/sqlite.ts";
import { type MessageEnd, serveStore } from "../../src/store/engine/serve_worker.ts";
import { DIE, type TestReply, type TestRequest } from "./test_worker.ts";

let tables: Kysely<unknown>;

self.addEventListener("message", (event) => {
  const [port] = (event as MessageEvent).ports;
  if (port === undefined) return;
  event.stopImmediatePropagation();
  port.onmessage = ({ data }: MessageEvent<TestRequest>) => answer(port, data);
});

serveStore(self as unknown as MessageEnd, (path) => {
  const dialect = sqliteDialect(path);
  tables = new Kysely({ dialect: dialect.kysely });
  return dialect;
});

async function answer(port: MessagePort, request: TestRequest): Promise<void> {
  switch (request.kind) {
    case "hang":
      Atomics.store(request.until, 1, 1);
      Atomics.notify(request.until, 1);
      Atomics.wait(request.until, 0, 0);
      if (request.until[0] === DIE) throw new Error("broken for a test");
      return;
    case "statement":
      try {
        const { rows, numAffectedRows, insertId } = await tables.executeQuery(
          CompiledQuery.raw(request.sql, [...request.parameters]),
        );
        port.postMessage({ id: request.id, result: { rows, numAffectedRows, insertId } } satisfies TestReply);
      } catch (error) {
        const { message, code } = error as { message: string; code?: string };
        port.postMessage({ id: request.id, error: { message, code } } satisfies TestReply);
      }
  }
}
