/** How an audit log goes on: after a crash, in the next file, beside another process, on a full disk. */
import assert from "node:assert/strict";
import { NotRecorded } from "../../src/domain/refusals.ts";
import { chainRecord, formatRecord, type Position } from "../../src/audit/audit_chain.ts";
import { headsOf } from "../../src/audit/find_records.ts";
import { eventually } from "../harness/eventually.ts";
import { fullDiskTest } from "../store/full_disk.ts";
import { deliveryRecord, linesIn, makeLogDirectory, problemsOf } from "./audit_fixture.ts";

Deno.test("what is recorded at the same time is in the log in one chain", async () => {
  await using log = await makeLogDirectory();
  const trail = await log.open({ durable: true });
  await Promise.all(Array.from({ length: 500 }, (_, i) => trail.write(deliveryRecord(i))));
  trail.note({ kind: "burning", reason: "refused", blocks: 1 });
  await trail.close({ kind: "stop" });
  const found = await log.verify();
  assert.deepEqual(found.findings, []);
  assert.equal(found.chains[0]!.records, 503);
  const [head] = await headsOf(log.path);
  assert.equal(head!.hash, found.chains[0]!.hash);
});

Deno.test("records that are dropped because too many wait are counted in a record of their own", async () => {
  await using log = await makeLogDirectory();
  const trail = await log.open();
  const notes = 10_500;
  for (let i = 0; i < notes; i++) trail.note({ kind: "burning", reason: "refused", blocks: i });
  await trail.close({ kind: "stop" });
  const lines = log.files().flatMap((name) => linesIn(log.read(name))).map((line) => JSON.parse(line));
  const dropped = lines.filter(({ kind }) => kind === "gap").map((gap) => gap.dropped as number);
  const written = lines.filter(({ kind }) => kind === "burning").length;
  assert.ok(written >= 10_000 && dropped.length > 0, `${written} written, dropped: ${dropped}`);
  assert.equal(written + dropped.reduce((sum, number) => sum + number, 0), notes);
  assert.deepEqual((await log.verify()).findings, []);
});

Deno.test("a process continues where the previous one stopped", async () => {
  await using log = await makeLogDirectory();
  for (let run = 0; run < 3; run++) {
    const trail = await log.open();
    await trail.write(deliveryRecord(run));
    await trail.close({ kind: "stop" });
  }
  const found = await log.verify();
  assert.deepEqual(found.findings, []);
  assert.equal(found.chains.length, 1);
  assert.equal(found.chains[0]!.records, 7);
});

Deno.test("a record that was cut by a crash is marked at the next start, wherever it was cut", async () => {
  await using log = await makeLogDirectory();
  const trail = await log.open();
  for (let i = 0; i < 3; i++) await trail.write(deliveryRecord(i));
  await trail.close();
  const name = log.files()[0]!;
  const whole = log.read(name);
  const last = whole.lastIndexOf(10, whole.length - 2) + 1;
  for (let length = last + 1; length < whole.length; length += 5) {
    log.write(name, whole.subarray(0, length));
    assert.equal(problemsOf(await log.verify()).length, 1, "before the start it is a problem");
    const next = await log.open();
    await next.write(deliveryRecord(9));
    await next.close({ kind: "stop" });
    const { findings, chains } = await log.verify();
    assert.deepEqual(findings.map(({ severity }) => severity), ["notice"]);
    assert.match(findings[0]!.message, new RegExp(`^${length - last} bytes from line 4 on are not a record`));
    assert.equal(chains[0]!.records, 6);
  }
});

Deno.test("a start without a stop before it is said", async () => {
  await using log = await makeLogDirectory();
  for (const ends of [true, false, true]) {
    const trail = await log.open();
    await trail.write({ kind: "start" });
    await trail.close(ends ? { kind: "stop" } : undefined);
  }
  const { findings } = await log.verify();
  assert.deepEqual(findings.map(({ severity }) => severity), ["notice"]);
  assert.match(findings[0]!.message, /^record 5 is a start without a stop before it/);
});

Deno.test("torn bytes that were altered after they were marked are a problem", async () => {
  await using log = await makeLogDirectory();
  const trail = await log.open();
  await trail.write(deliveryRecord(1));
  await trail.close();
  const name = log.files()[0]!;
  log.write(name, log.read(name).subarray(0, -30));
  await (await log.open()).close({ kind: "stop" });
  assert.deepEqual(problemsOf(await log.verify()), []);
  const bytes = log.read(name);
  const at = bytes.indexOf(10) + 20;
  bytes[at] = bytes[at]! ^ 1;
  log.write(name, bytes);
  assert.ok(problemsOf(await log.verify()).length > 0);
});

Deno.test("two processes on one directory write a chain each", async () => {
  await using log = await makeLogDirectory();
  const [one, two] = [await log.open(), await log.open()];
  assert.deepEqual([one.state.chain, two.state.chain], [1, 2]);
  await Promise.all([one.write(deliveryRecord(1)), two.write(deliveryRecord(2))]);
  assert.deepEqual((await log.verify()).chains.map(({ isWritten }) => isWritten), [true, true]);
  await one.close({ kind: "stop" });
  const three = await log.open();
  assert.equal(three.state.chain, 1);
  await two.close({ kind: "stop" });
  await three.close({ kind: "stop" });
  const found = await log.verify();
  assert.deepEqual(found.findings, []);
  assert.deepEqual(found.chains.map(({ chain }) => chain), [1, 2]);
});

Deno.test("a file of the maximum size is followed by another one, and old files are removed with a record", async () => {
  await using log = await makeLogDirectory();
  const trail = await log.open({ rotateBytes: 1000, keepMs: 0 });
  for (let i = 0; i < 12; i++) await trail.write(deliveryRecord(i));
  await trail.close({ kind: "stop" });
  const files = log.files();
  assert.ok(files.length <= 2, files.join());
  const found = await log.verify();
  assert.deepEqual(problemsOf(found), []);
  assert.match(found.findings[0]!.message, /were removed as older than keep_days, which is recorded/);
  // The file of which a record says that it was removed may be there; any further one may not be missing.
  await Deno.remove(`${log.path}/${files[0]}`);
  if (files.length === 2) assert.ok(problemsOf(await log.verify()).length > 0);
});

Deno.test("an old file that cannot be removed does not keep keys from being recorded", async () => {
  await using log = await makeLogDirectory();
  const trail = await log.open({ rotateBytes: 1000 });
  for (let i = 0; i < 5; i++) await trail.write(deliveryRecord(i));
  await trail.close({ kind: "stop" });
  // A directory in its place cannot be removed, nor be read.
  const [first] = log.files();
  await Deno.rename(`${log.path}/${first}`, `${log.path}/away`);
  await Deno.mkdir(`${log.path}/${first}/full`, { recursive: true });
  const next = await log.open({ rotateBytes: 1000, keepMs: 0 });
  for (let i = 5; i < 9; i++) await next.write(deliveryRecord(i));
  await next.close({ kind: "stop" });
  await Deno.remove(`${log.path}/${first}`, { recursive: true });
  await Deno.rename(`${log.path}/away`, `${log.path}/${first}`);
  assert.deepEqual(problemsOf(await log.verify()), []);
});

Deno.test("a file that is removed while it is written is followed by another one, and its absence is detected", async () => {
  await using log = await makeLogDirectory();
  const trail = await log.open({ periodMs: 20 });
  await trail.write(deliveryRecord(1));
  await Deno.remove(`${log.path}/${log.files()[0]}`);
  await eventually(() => log.files().length === 1, { what: "a new file" });
  await trail.write(deliveryRecord(2));
  await trail.close({ kind: "stop" });
  assert.match(problemsOf(await log.verify())[0]!.message, /records before it are missing/);
});

Deno.test("a file that an attempt has begun before it failed is continued, and no other file is", async () => {
  const begin = (state: Position, kme = "1") =>
    chainRecord(formatRecord({ kind: "file", kme, file: 2, version: "0.0.0" }), state);
  const others: ((state: Position) => string)[] = [
    () => "",
    (state) => begin({ ...state, hash: "0".repeat(64) }).line,
    (state) => begin({ ...state, sequence: 7 }).line,
    (state) => begin(state, "2").line,
    (state) => begin(state).line.slice(0, -1),
    (state) => {
      const first = begin(state);
      return first.line + chainRecord(formatRecord(deliveryRecord(3)), first).line;
    },
  ];
  for (const other of others) {
    await using log = await makeLogDirectory();
    const trail = await log.open({ periodMs: 20 });
    await trail.write(deliveryRecord(1));
    const next = "audit-1-000002.jsonl";
    const put = (text: string) => log.write(next, new TextEncoder().encode(text));
    const { state } = trail;
    put(other(state));
    await Deno.remove(`${log.path}/${log.files()[0]}`);
    await eventually(() => trail.failure?.endsWith(`${next} is there already`), { what: "the failure" });
    put(begin(state).line);
    await eventually(() => trail.failure === undefined, { what: "the end of the failure" });
    await trail.write(deliveryRecord(2));
    await trail.close({ kind: "stop" });
    const problems = problemsOf(await log.verify());
    assert.equal(problems.length, 1);
    assert.match(problems[0]!.message, /records before it are missing/);
    assert.deepEqual(log.files(), [next]);
  }
});

fullDiskTest("on a full disk nothing is recorded, and nothing of it is in the chain", 4, async (disk) => {
  await using log = await makeLogDirectory();
  const failures: (string | undefined)[] = [];
  const trail = await log.open({
    directory: disk.path,
    durable: true,
    periodMs: 20,
    onFailure: (reason) => failures.push(reason),
  });
  await trail.write(deliveryRecord(0));
  await disk.fill();
  await eventually(() => trail.failure !== undefined, { what: "the full disk" });
  assert.throws(() => trail.require(), NotRecorded);
  await assert.rejects(trail.write(deliveryRecord(1)), NotRecorded);
  trail.note({ kind: "burning", reason: "refused", blocks: 1 });
  await disk.empty();
  await eventually(() => trail.failure === undefined, { what: "the end of the failure" });
  await trail.write(deliveryRecord(2));
  const { chain } = trail.state;
  await trail.close({ kind: "stop" });
  const lines = linesIn(Deno.readFileSync(`${disk.path}/audit-${chain}-000001.jsonl`));
  const kinds = lines.map((line) => JSON.parse(line).kind);
  assert.deepEqual(kinds, ["file", "delivery", "gap", "burning", "delivery", "stop"]);
  assert.ok(failures.length === 2 && failures[0] !== undefined && failures[1] === undefined);
});

fullDiskTest("a write that the disk cuts leaves nothing", 4, async (disk) => {
  await using log = await makeLogDirectory();
  // It looks for a full disk too late, so that a write meets it.
  const trail = await log.open({ directory: disk.path, durable: true, periodMs: 3000 });
  await trail.write(deliveryRecord(0));
  await disk.fill();
  const long = { ...deliveryRecord(1), slaves: Array.from({ length: 20_000 }, () => "for a test") };
  await assert.rejects(trail.write(long as ReturnType<typeof deliveryRecord>), NotRecorded);
  await disk.empty();
  await eventually(() => trail.failure === undefined, { what: "the end of the failure" });
  await trail.write(deliveryRecord(2));
  await trail.close({ kind: "stop" });
  const { verifyAudit } = await import("../../src/audit/verify_audit.ts");
  const found = await verifyAudit({ directory: disk.path });
  assert.deepEqual(found.findings, []);
  assert.equal(found.chains[0]!.records, 5);
});
