/** Pages of blocks for the comparison of two ends' stocks. */
import assert from "node:assert/strict";
import { BlockState } from "../../src/store/table_schema.ts";
import { fill, ledgerTest, OWN } from "./store_fixture.ts";

ledgerTest("a page looks at a part of a large pool only, so that others need not wait", async (ledger) => {
  const store = await ledger.open();
  const blocks = 20_000;
  await fill(store, blocks);
  const all = async (tags?: readonly number[]) => {
    const sizes: number[] = [];
    for (let after: number | undefined = 0; after !== undefined;) {
      const page: Awaited<ReturnType<typeof store.blockPage>> = await store.blockPage({
        linkId: store.link(OWN.text)!.id,
        states: [BlockState.free],
        tags,
        after,
        limit: 4096,
      });
      sizes.push(page.ids.length);
      after = page.next;
    }
    return sizes;
  };
  const found = await all();
  assert.equal(found.reduce((sum, size) => sum + size, 0), blocks);
  assert.ok(found.length > 1);
  // Of no file that is there: nothing is found, but not in one page.
  const none = await all([1]);
  assert.ok(none.length > 1 && none.every((size) => size === 0), `${none}`);
});
