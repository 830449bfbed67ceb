/** The number that distinguishes a database from an older copy of itself. */
import type { Kysely } from "kysely";
import type { Operation } from "../work.ts";
import type { Schema } from "../table_schema.ts";

export interface Advance {
  /** The new generation is more than this. */
  readonly beyond: number;
}

/** Advances the generation; returns the new one. */
export const advance: Operation<Advance, number> = {
  name: "advance",
  async run({ trx, dialect }, items) {
    const { value } = await dialect.forUpdate(
      trx.selectFrom("generation").select("value").where("one", "=", 1),
    ).executeTakeFirstOrThrow();
    const next = Math.max(value, ...items.map((item) => item.beyond)) + 1;
    await trx.updateTable("generation").set({ value: next }).where("one", "=", 1).execute();
    return items.map(() => next);
  },
};

export async function currentGeneration(db: Kysely<Schema>): Promise<number> {
  const { value } = await db.selectFrom("generation").select("value").where("one", "=", 1)
    .executeTakeFirstOrThrow();
  return value;
}
