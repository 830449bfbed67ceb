/** How SQLite carries out statements on blocks that are selected by key_ID. */
import assert from "node:assert/strict";
import { CompiledQuery } from "kysely";
import { isInState } from "../../src/store/statements.ts";
import { BlockState } from "../../src/store/table_schema.ts";
import { fill, ledgerTest } from "./store_fixture.ts";

ledgerTest(
  "blocks that are named are found by their key_IDs, however many others are free",
  async (ledger) => {
    const store = await ledger.open();
    const blocks = await fill(store, 600);
    const ids = blocks.slice(0, 500).map(({ id }) => id);
    const { sql, parameters } = ledger.tables.updateTable("blocks").set({ state: BlockState.unmatched })
      .where("block_id", "in", ids).where("link_id", "=", 1).where(isInState(BlockState.free)).compile();
    const plan = await ledger.tables.executeQuery<{ detail: string }>(
      CompiledQuery.raw(`explain query plan ${sql}`, [...parameters]),
    );
    assert.match(plan.rows.map(({ detail }) => detail).join("\n"), /\(block_id=\?\)/);
    assert.doesNotMatch(plan.rows.map(({ detail }) => detail).join("\n"), /free_blocks|SCAN/);
  },
  ["sqlite"],
);
