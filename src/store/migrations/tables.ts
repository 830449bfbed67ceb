/** Existing tables, looked up as the program's statements do: by name without a schema. */
import { type Kysely, PostgresAdapter, sql } from "kysely";

// deno-lint-ignore no-explicit-any
export async function tableNames(db: Kysely<any>): Promise<Set<string>> {
  return new Set((await schemasOfTables(db)).keys());
}

/** The schema that the table is in, or would be created in; `undefined` where a database has no schemas. */
// deno-lint-ignore no-explicit-any
export async function schemaOf(db: Kysely<any>, table: string): Promise<string | undefined> {
  if (!isPostgres(db)) return undefined;
  const found = (await schemasOfTables(db)).get(table);
  if (found !== undefined) return found;
  const { rows } = await sql<{ name: string | null }>`select current_schema() as name`.execute(db);
  return rows[0]?.name ?? undefined;
}

// deno-lint-ignore no-explicit-any
async function schemasOfTables(db: Kysely<any>): Promise<Map<string, string | undefined>> {
  if (!isPostgres(db)) {
    const tables = await db.introspection.getTables({ withInternalKyselyTables: true });
    return new Map(tables.map(({ name, schema }) => [name, schema]));
  }
  // Kysely would list the tables of every schema, including those of other programs.
  const { rows } = await sql<{ name: string; schema: string }>`
    select relname as name, nspname as schema from pg_class join pg_namespace on pg_namespace.oid = relnamespace
    where relkind in ('r', 'p') and pg_table_is_visible(pg_class.oid)`.execute(db);
  return new Map(rows.map(({ name, schema }) => [name, schema]));
}

// deno-lint-ignore no-explicit-any
function isPostgres(db: Kysely<any>): boolean {
  return db.getExecutor().adapter instanceof PostgresAdapter;
}
