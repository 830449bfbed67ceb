/** Texts of statements are kept by their shape. */
import assert from "node:assert/strict";
import { CompiledQuery } from "kysely";
import type { Work } from "../../src/store/work.ts";
import { run } from "../../src/store/statements.ts";

Deno.test("a frequent statement is built once, however many others there are", async () => {
  const texts = new Map<string, string>();
  const ran: string[] = [];
  const trx = {
    executeQuery: (query: CompiledQuery) => {
      ran.push(query.sql);
      return Promise.resolve({ rows: [] });
    },
  } as unknown as Work["trx"];
  const builds = new Map<string, number>();
  const meet = async (shape: string) => {
    await run({ trx, texts } as Work, shape, [1], () => {
      builds.set(shape, (builds.get(shape) ?? 0) + 1);
      return { compile: () => CompiledQuery.raw(`text of ${shape}`, [1]) };
    });
    assert.equal(ran.at(-1), `text of ${shape}`);
  };
  for (let i = 0; i < 3000; i++) {
    await meet("often");
    await meet(`once ${i}`);
  }
  assert.equal(builds.get("often"), 1);
  await meet("once 2999");
  assert.equal(builds.get("once 2999"), 1, "a new one is kept");
  await meet("once 0");
  assert.equal(builds.get("once 0"), 2, "an old one is not");
  assert.ok(texts.size <= 1000);
});
