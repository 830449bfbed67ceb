/** The audit log where the name of a new file cannot be made durable. */
import assert from "node:assert/strict";
import { eventually } from "../harness/eventually.ts";
import { withoutRights } from "../check/check_fixture.ts";
import { deliveryRecord, linesIn, makeLogDirectory } from "./audit_fixture.ts";

Deno.test("a new file whose directory could not be synced is continued when it can", {
  ignore: Deno.build.os === "windows",
}, async () => {
  await using log = await makeLogDirectory();
  if (Deno.uid() === 0) await Deno.chown(log.path, 65534, null);
  await withoutRights(async () => {
    const trail = await log.open({ rotateBytes: 2000, periodMs: 20 });
    // Files can be created and renamed in it, but it cannot be opened to be synced.
    await Deno.chmod(log.path, 0o300);
    const written: number[] = [];
    let number = 0;
    const write = () => trail.write(deliveryRecord(++number)).then(() => written.push(number));
    await eventually(() => write().then(() => false, () => true), { interval: 0, what: "the next file" });
    assert.match(trail.failure!, /denied/);
    await Deno.chmod(log.path, 0o700);
    await eventually(() => trail.failure === undefined, { what: "the end of the failure" });
    await write();
    await trail.close({ kind: "stop" });
    assert.deepEqual((await log.verify()).findings, []);
    assert.deepEqual(log.files(), ["audit-1-000001.jsonl", "audit-1-000002.jsonl"]);
    const lines = log.files().flatMap((name) => linesIn(log.read(name))).map((line) => JSON.parse(line));
    const numbers = lines.filter(({ kind }) => kind === "delivery").map(({ key_IDs }) =>
      Number(key_IDs[0].slice(-12))
    );
    assert.deepEqual(numbers, written);
  });
});
