import assert from "node:assert/strict";
import { within } from "../../src/domain/within.ts";

const never = new Promise<string>(() => {});

Deno.test("a result in time is the result, and a failure in time the failure", async () => {
  // The limit would come first if it were looked at first.
  assert.equal(await within(Promise.resolve("in time"), 0, () => "late"), "in time");
  await assert.rejects(within(Promise.reject(new Error("failed")), 0, () => "late"), /^Error: failed$/);
});

Deno.test("without a result in time it is what the caller says, or throws", async () => {
  assert.equal(await within(never, 1, () => "late"), "late");
  const late = () => {
    throw new Error("no answer");
  };
  await assert.rejects(within(never, 1, late), /^Error: no answer$/);
});

Deno.test("a failure after the limit is ignored", async () => {
  const answer = Promise.withResolvers<string>();
  assert.equal(await within(answer.promise, 1, () => "late"), "late");
  answer.reject(new Error("too late"));
  // An unhandled rejection would fail the test here.
  await new Promise((resolve) => setTimeout(resolve, 0));
});
