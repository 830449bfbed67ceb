/** What the console and `kme status` call a problem. */
import assert from "node:assert/strict";
import { deliverable, findProblems, ProblemTimes, type StatusFacts } from "../../src/console/problems.ts";

const link = (kme: string, free: number | null, used = true): StatusFacts["links"][number] => ({
  kme,
  free,
  max: 100,
  used,
  servedAgain: 0,
  lastIngestion: null,
  files: [],
});

const healthy: StatusFacts = {
  kme: "1",
  nickname: "Alice",
  version: "0.0.0",
  ready: true,
  reason: null,
  uptime: 1,
  links: [link("1", 0, false), link("2", 5), link("3", 5)],
  relayed: [{ kme: "4", through: "3" }],
  saes: [],
  burnt: 0,
  keysWaiting: 0,
  peers: ["2", "3"].map((kme) => ({ kme, up: true, since: null, lastError: null })),
  certificates: [],
  storeEncrypted: true,
  entropy: 8,
};

const texts = (facts: StatusFacts) => findProblems(facts).map(({ what }) => what);

Deno.test("an unused pool is not a problem", () => {
  assert.deepEqual(texts(healthy), []);
  assert.equal(deliverable(healthy), "all");
});

Deno.test("a peer that is down, an empty link and unmatched blocks are problems, errors first", () => {
  const [own, second] = healthy.links;
  const began = { unmatched: "2026-01-01T00:00:00.000Z", down: "2026-01-02T00:00:00.000Z" };
  const facts: StatusFacts = {
    ...healthy,
    links: [own!, { ...second!, unmatched: 7, unmatchedSince: began.unmatched }, link("3", 0)],
    peers: [healthy.peers[0]!, { kme: "3", up: false, since: null, lastError: "connection refused" }],
  };
  assert.deepEqual(texts(facts), [
    "no blocks left in the link with KME 3",
    "KME 3 does not answer, nor can KME 4 be reached through it: connection refused",
    "7 blocks of the link with KME 2 are at one end only (7 here, 0 there)",
  ]);
  const times = findProblems({
    ...facts,
    peers: facts.peers.map((each) => ({ ...each, since: began.down })),
  }).map(({ since }) => since);
  assert.deepEqual(times, [undefined, began.down, began.unmatched]);
  const passing = facts.links.map((each) => ({ ...each, unmatchedSince: null }));
  assert.ok(
    !texts({ ...facts, links: passing }).some((text) => /at one end only/.test(text)),
    "a moment ago",
  );
  assert.equal(deliverable(facts), "some");
  assert.equal(deliverable({ ...facts, ready: false, reason: "the disk of the database is full" }), "none");
});

Deno.test("a certificate is a problem two weeks before it expires", () => {
  const certificates = [13, 14, -1].map((daysLeft) => ({
    member: `days ${daysLeft}`,
    use: "server" as const,
    subject: "CN=for a test",
    serial: "01",
    notBefore: "2026-01-01T00:00:00Z",
    notAfter: "2026-02-01T00:00:00Z",
    daysLeft,
  }));
  const saes = [{ sae: "9", lastSeen: null, certificateDaysLeft: 1 }];
  assert.deepEqual(texts({ ...healthy, certificates, saes }), [
    "the certificate of days -1 has expired",
    "the certificate of days 13 expires in 13 days",
    "the certificate of SAE 9 expires in 1 day",
  ]);
});

Deno.test("the time of a problem is that of its beginning, and a new one after it was resolved", () => {
  const times = new ProblemTimes();
  const at = (seconds: number) => new Date(seconds * 1000);
  const found = [{ name: "a", severity: "error" as const, link: null, what: "7 are missing" }];
  assert.equal(times.update(found, at(1))[0]!.since, at(1).toISOString());
  const began = { ...found[0]!, name: "b", since: at(0).toISOString() };
  assert.equal(times.update([...found, began], at(1))[1]!.since, at(0).toISOString(), "noticed before");
  // Its words may change.
  assert.equal(times.update([{ ...found[0]!, what: "8 are missing" }], at(2))[0]!.since, at(1).toISOString());
  times.update([], at(3));
  assert.equal(times.update(found, at(4))[0]!.since, at(4).toISOString());
});
