/**
 * Changes the program so that no key_ID is stored, as when the digest of a key's block was its key_ID. Such keys cannot be collected.
 * key_IDs are still made for the answers, which takes less than a microsecond each.
 */
import SqliteDatabase from "better-sqlite3";

/** What is changed in the statements that hold it; both are of `src/store`. */
const CHANGES = [
  [/"key_id" = substr\(\?, "listed"\."key" \* 16 \+ 1, 16\)/, `"key_id" = null || ?`],
  ["(state = 3 and key_id is not null)", "(state = 3)"],
] as const;

/**
 * @param isChanged whether a database is; by default all are.
 * @returns how many statements have been changed so far.
 */
export function storeDigests(
  isChanged: (database: SqliteDatabase.Database) => boolean = () => true,
): () => number {
  const { prepare } = SqliteDatabase.prototype;
  let count = 0;
  SqliteDatabase.prototype.prepare = function (this: SqliteDatabase.Database, source: string) {
    if (!isChanged(this)) return prepare.call(this, source);
    const changed = CHANGES.reduce((text, [from, to]) => text.replace(from, to), source);
    if (changed !== source) count++;
    return prepare.call(this, changed);
  } as typeof prepare;
  return () => count;
}
