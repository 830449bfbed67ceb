/** Creates tables and indexes in a way that lets an interrupted migration run again. */
import { type CreateTableBuilder, type Kysely, type RawBuilder, sql } from "kysely";
import type { StoreDialect } from "../dialects/dialect.ts";

export interface TableBuilder {
  table(name: string): CreateTableBuilder<string>;
  /** A table whose only access is by primary key. */
  keyedTable(name: string): CreateTableBuilder<string>;
  /** @param options.where limits the index to some rows, if the database supports that. */
  index(
    name: string,
    table: string,
    columns: readonly string[],
    options?: { readonly where?: RawBuilder<unknown>; readonly unique?: boolean },
  ): Promise<void>;
}

// deno-lint-ignore no-explicit-any
export function tableBuilder(db: Kysely<any>, dialect: StoreDialect): TableBuilder {
  const create = (name: string, suffix = "") => {
    const table = db.schema.createTable(name).modifyEnd(sql.raw(suffix));
    // Without transactional DDL, tables of an interrupted migration still exist.
    return dialect.transactionalDdl ? table : table.ifNotExists();
  };
  return {
    table: (name) => create(name, dialect.tableSuffix),
    keyedTable: (name) => create(name, dialect.keyedTableSuffix ?? dialect.tableSuffix),
    async index(name, table, columns, { where, unique = false } = {}) {
      if (!dialect.transactionalDdl) {
        const { rows } = await sql`show index from ${sql.table(table)} where key_name = ${name}`.execute(db);
        if (rows.length > 0) return;
      }
      const list = sql.join(columns.map((column) => sql.ref(column)));
      const some = where && dialect.partialIndexes ? sql` where ${where}` : sql``;
      await sql`create ${sql.raw(unique ? "unique" : "")} index ${sql.id(name)} on ${
        sql.table(table)
      } (${list})${some}`.execute(db);
    },
  };
}
