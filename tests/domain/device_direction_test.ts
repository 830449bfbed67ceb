import assert from "node:assert/strict";
import {
  type DeviceDirection,
  directionConflict,
  type ToldDirection,
} from "../../src/domain/device_direction.ts";

const CASES: readonly (readonly [DeviceDirection, ToldDirection, "agree" | "warning" | "no keys"])[] = [
  ["this", "other", "agree"],
  ["other", "this", "agree"],
  ["both", "both", "agree"],
  ["other", "other", "no keys"],
  ["this", "none", "no keys"],
  ["other", "none", "no keys"],
  ["both", "none", "no keys"],
  ["this", "this", "warning"],
  ["this", "both", "warning"],
  ["both", "this", "warning"],
  ["both", "other", "warning"],
  ["other", "both", "warning"],
];

Deno.test("two ends of a link agree when exactly one of them requests keys, or both say both", () => {
  for (const [own, theirs, expected] of CASES) {
    const conflict = directionConflict(own, theirs, "2");
    const found = conflict === undefined ? "agree" : conflict.stopsKeys ? "no keys" : "warning";
    assert.equal(found, expected, `${own}, ${theirs}`);
  }
  assert.match(directionConflict("this", "this", "2")!.message, /^both ends request/);
  assert.match(directionConflict("other", "both", "2")!.message, /^only one end requests/);
});
