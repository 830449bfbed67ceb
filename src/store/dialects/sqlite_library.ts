/** Opens SQLite databases; the only place where its library is loaded. */
import SqliteDatabase from "better-sqlite3";
import { errorMessage } from "../../domain/text.ts";
import { StoreUnusable } from "../../domain/store_errors.ts";
import { usePrivateTempDirectory } from "../../platform.ts";

/** Must be called in the main thread before another thread opens a database. */
export function prepareSqlite(): void {
  // Only a compiled program unpacks the library.
  if (Deno.build.standalone) usePrivateTempDirectory();
}

/**
 * Opens a database.
 *
 * @throws StoreUnusable when the library cannot be loaded; SqliteError when the database cannot be opened.
 */
export function openSqlite(path: string, options: SqliteDatabase.Options): SqliteDatabase.Database {
  prepareSqlite();
  if (!isLoaded) load();
  return new SqliteDatabase(path, options);
}

let isLoaded = false;

function load(): void {
  try {
    // The first database loads the library.
    new SqliteDatabase(":memory:").close();
    isLoaded = true;
  } catch (error) {
    throw new StoreUnusable(libraryFailure(errorMessage(error)), { cause: error });
  }
}

/** One line that says what the system lacks. @param message of the system's loader. */
export function libraryFailure(message: string): string {
  const reason = message.replaceAll(/\s+/g, " ").trim();
  return `SQLite's library cannot be loaded: ${remedy(reason)} (${reason})`;
}

function remedy(reason: string): string {
  if (/GLIBC_|ld-musl|__\w+: symbol not found/.test(reason)) return "glibc 2.34 or newer is needed";
  if (/libstdc\+\+|GLIBCXX_|CXXABI_/.test(reason)) return "libstdc++ is missing or too old; install it";
  if (/failed to map segment|Operation not permitted|Permission denied/.test(reason)) {
    return "the directory for temporary files is mounted noexec; set TMPDIR to one that is not";
  }
  return "the program needs glibc 2.34, libstdc++ and a directory for temporary files (TMPDIR) that is not noexec";
}
