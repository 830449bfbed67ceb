/** SQLite through better-sqlite3: one process, one connection, every commit an fsync. */
import type SqliteDatabase from "better-sqlite3";
import {
  type DatabaseConnection,
  type DialectAdapter,
  type Driver,
  SqliteAdapter,
  type SqliteDatabase as KyselyDatabase,
  SqliteDialect,
  type SqliteStatement,
} from "kysely";
import { ShortTurns } from "../../domain/slices.ts";
import { StoreUnusable } from "../../domain/store_errors.ts";
import { deleteByKey, type Failure, type StoreDialect } from "./dialect.ts";
import { errorMessage } from "../../domain/text.ts";
import { openSqlite } from "./sqlite_library.ts";

/**
 * Pages of the write-ahead log from which on it is copied into the file. A page that changes often is copied once, so a long log is
 * cheaper; a short one is copied before the next request comes, if few come.
 */
const LOG_PAGES = { busy: 1000, quiet: 200 } as const;

/**
 * Opens a file, created with mode 0600 if missing, or `:memory:`.
 *
 * @throws StoreUnusable when another process has the file open, or it is not a database.
 */
export function sqliteDialect(path: string): StoreDialect {
  if (path !== ":memory:") createPrivately(path);
  let database: SqliteDatabase.Database | undefined;
  try {
    database = openSqlite(path, { timeout: 200 });
    // Exclusive: a second process on the file is refused. The lock ends with the process.
    database.pragma("locking_mode = EXCLUSIVE");
    database.pragma("journal_mode = WAL");
    database.pragma("synchronous = FULL");
    // Otherwise a commit does it, before its answer: see `tidy`.
    database.pragma(`wal_autocheckpoint = ${4 * LOG_PAGES.busy}`);
    database.pragma("foreign_keys = ON");
    // Digests are random, so a batch of blocks touches pages all over the file: 16 MiB of them stay cached.
    database.pragma("cache_size = -16384");
    // Bits of spent keys are overwritten, not left in free pages.
    database.pragma("secure_delete = ON");
    // No temporary files either.
    database.pragma("temp_store = MEMORY");
    database.exec("BEGIN IMMEDIATE; COMMIT");
  } catch (error) {
    database?.close();
    throw new StoreUnusable(openFailure(path, error), { cause: error });
  }
  return {
    name: "sqlite",
    kysely: path === ":memory:"
      ? new InterruptibleDialect({ database: forKysely(database) })
      : new TransactionalDialect({ database: forKysely(database) }),
    transactionalDdl: true,
    exclusive: true,
    lanes: 1,
    bytes: () => "blob",
    varbytes: () => "blob",
    text: "text",
    // Without it, the number of the last row would be used again after that row is deleted.
    longText: "text",
    sequence: { type: "integer", define: (column) => column.autoIncrement() },
    partialIndexes: true,
    readsJson: true,
    readsArrays: false,
    insertIgnoring: (query) => query.onConflict((conflict) => conflict.doNothing()) as typeof query,
    keyedTableSuffix: "without rowid",
    skipLocked: (query) => query,
    forUpdate: (query) => query,
    deleteByKey,
    classify,
    ...path === ":memory:" ? {} : { tidy: logCopier(database) },
  };
}

/**
 * Copies the write-ahead log into the file when it is long: tens of writes and two fsyncs. Every commit is durable in the log
 * already, so this may fail or come late.
 */
function logCopier(database: SqliteDatabase.Database): (isQuiet: boolean) => void {
  const count = database.prepare<[], { log: number; checkpointed: number }>("pragma wal_checkpoint(noop)");
  const copy = database.prepare("pragma wal_checkpoint(passive)");
  /** Pages of the log when copying it failed: it is tried again when the log has changed, not after each answer. */
  let failedAt: number | undefined;
  return (isQuiet) => {
    if (database.inTransaction) return;
    try {
      const { log, checkpointed } = count.get()!;
      if (log - checkpointed < LOG_PAGES[isQuiet ? "quiet" : "busy"] || log === failedAt) return;
      failedAt = log;
      copy.get();
      failedAt = undefined;
    } catch {
      // Every commit stays in the log.
    }
  };
}

/** Migrations run in one transaction: SQLite supports that, but Kysely assumes that it does not. */
class TransactionalDialect extends SqliteDialect {
  override createAdapter(): DialectAdapter {
    return new TransactionalAdapter();
  }
}

/**
 * For a database in memory, whose statements run in the main thread: between the statements of a long transaction other work has
 * its turn. Other statements wait until the transaction ends, since there is one connection.
 */
class InterruptibleDialect extends TransactionalDialect {
  override createDriver(): Driver {
    const driver = super.createDriver();
    const acquire = driver.acquireConnection.bind(driver);
    const turns = new ShortTurns();
    const interruptible = new WeakSet<DatabaseConnection>();
    driver.acquireConnection = async (options) => {
      const connection = await acquire(options);
      if (!interruptible.has(connection)) {
        interruptible.add(connection);
        const execute = connection.executeQuery.bind(connection);
        connection.executeQuery = async (query, options) => {
          await turns.next();
          return await execute(query, options);
        };
      }
      return connection;
    };
    return driver;
  }
}

class TransactionalAdapter extends SqliteAdapter {
  override get supportsTransactionalDdl(): boolean {
    return true;
  }
}

/** Prepared statements kept: enough for every operation with the usual numbers of rows. */
const MAX_STATEMENTS = 300;

/**
 * The database as Kysely uses it: each statement is prepared once, and the least recently used ones are dropped. A full disk
 * and some other failures end a transaction; Kysely's `rollback` would then fail too and hide the cause, so it does nothing.
 */
function forKysely(database: SqliteDatabase.Database): KyselyDatabase {
  const nothing = { reader: false, all: () => [], run: () => ({ changes: 0, lastInsertRowid: 0 }) };
  const statements = new Map<string, SqliteStatement>();
  return {
    close: () => database.close(),
    prepare(sql) {
      if (sql === "rollback" && !database.inTransaction) return { ...nothing, iterate: () => [].values() };
      let statement = statements.get(sql);
      if (statement === undefined) statement = database.prepare(sql) as unknown as SqliteStatement;
      else statements.delete(sql);
      statements.set(sql, statement);
      if (statements.size > MAX_STATEMENTS) statements.delete(statements.keys().next().value!);
      return statement;
    },
  };
}

function createPrivately(path: string): void {
  try {
    Deno.openSync(path, { write: true, createNew: true, mode: 0o600 }).close();
  } catch (error) {
    if (!(error instanceof Deno.errors.AlreadyExists)) {
      throw new StoreUnusable(`cannot create the database file ${path}: ${errorMessage(error)}`, {
        cause: error,
      });
    }
  }
}

function openFailure(path: string, error: unknown): string {
  const code = (error as { code?: string }).code ?? "";
  if (/^SQLITE_(BUSY|LOCKED)/.test(code)) return `the database file ${path} is in use by another process`;
  if (code === "SQLITE_NOTADB") return `${path} is not an SQLite database`;
  return `cannot open the database file ${path}: ${whyNotWritable(path) ?? errorMessage(error)}`;
}

/** What the system says of writing to a file, for which SQLite has "disk I/O error" only. */
function whyNotWritable(path: string): string | undefined {
  try {
    Deno.openSync(path, { append: true }).close();
  } catch (error) {
    return errorMessage(error);
  }
}

function classify(error: unknown): Failure {
  const code = (error as { code?: unknown }).code;
  if (typeof code !== "string" || !code.startsWith("SQLITE_")) return "fault";
  return /^SQLITE_(FULL|IOERR|BUSY|LOCKED|CANTOPEN|READONLY|NOMEM|CORRUPT|PROTOCOL)/.test(code)
    ? "unavailable"
    : "fault";
}
