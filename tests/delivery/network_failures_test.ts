/** With one of the KMEs down no SAE gets a key, and the reserved blocks are free again afterwards. */
import assert from "node:assert/strict";
import { eventually } from "../harness/eventually.ts";
import type { KmeProcess } from "../harness/kme_process.ts";
import type { TestNetwork } from "../harness/test_network.ts";
import { assertProblem, startNetwork } from "../sae_api/api_fixture.ts";
import { assertEachReadsOnce, chain, stocks, triangle, withOptions } from "./test_networks.ts";

const NOBODY = "the keys cannot be activated on every slave's KME";

const TIMEOUT = { inter_kme_timeout_seconds: 1 };

/** How a KME is away: dead, or there but silent. */
const WAYS = {
  dead: {
    leave: (process: KmeProcess) => process.kill(),
    comeBack: async (network: TestNetwork, kme: number) => {
      await network.start(kme);
    },
  },
  silent: {
    leave: (process: KmeProcess) => {
      process.signal("SIGSTOP");
      return Promise.resolve();
    },
    comeBack: (_network: TestNetwork, _kme: number, process: KmeProcess) => {
      process.signal("SIGCONT");
      return Promise.resolve();
    },
  },
};

interface Case {
  readonly name: string;
  readonly spec: typeof chain;
  readonly links: [number, number][];
  /** Number of the KME that is away. */
  readonly away: number;
  readonly slave: number;
  readonly additional: string[];
  /**
   * Blocks of each link that may be burnt: pads that may have been sent, and the blocks of a key that a KME has seen which
   * is not at either end of their link.
   */
  readonly burnt: Record<keyof typeof WAYS, number[]>;
}

const SIZE = 512;
/** Blocks of one link in one request. */
const EACH = SIZE / 256;
const STOCK = 20;

const triangleLinks: Case["links"] = [[1, 2], [1, 3], [2, 3]];
const chainLinks: Case["links"] = [[1, 2], [2, 3], [3, 4]];

const CASES: Case[] = [
  {
    name: "the KME of the slave in the URL",
    spec: triangle,
    links: triangleLinks,
    away: 2,
    slave: 2,
    additional: ["3", "11"],
    burnt: { dead: [0, 0, 0], silent: [0, 0, 0] },
  },
  {
    name: "the KME of an additional slave",
    spec: triangle,
    links: triangleLinks,
    away: 3,
    slave: 2,
    additional: ["3", "11"],
    burnt: { dead: [0, 0, 0], silent: [EACH, EACH, 0] },
  },
  {
    name: "the KME next to the master's",
    spec: chain,
    links: chainLinks,
    away: 2,
    slave: 4,
    additional: ["2", "3"],
    burnt: { dead: [0, 0, 0], silent: [EACH, EACH, EACH] },
  },
  {
    name: "a KME in the middle",
    spec: chain,
    links: chainLinks,
    away: 3,
    slave: 4,
    additional: ["2", "11"],
    burnt: { dead: [0, 0, 0], silent: [EACH, EACH, EACH] },
  },
  {
    name: "the KME at the far end",
    spec: chain,
    links: chainLinks,
    away: 4,
    slave: 4,
    additional: ["2", "3"],
    burnt: { dead: [EACH, EACH, 0], silent: [EACH, EACH, EACH] },
  },
];

for (const { name, spec, links, away, slave, additional, burnt } of CASES) {
  for (const way of ["dead", "silent"] as const) {
    const { leave, comeBack } = WAYS[way];
    Deno.test(`with ${name} ${way}, no SAE gets a key and the stocks are restored`, async () => {
      await using network = await startNetwork(
        withOptions(spec, TIMEOUT, "sqlite"),
        ...links.map(([a, b]): [number, number, number] => [a, b, STOCK]),
      );
      const master = network.client(1);
      const request = { size: SIZE, additional_slave_SAE_IDs: additional };
      // Every KME on the way is known to the others by now.
      await assertEachReadsOnce(network, await master.encKeys(slave, request), 1, [slave, ...additional]);
      const ends = links.map(([a, b]): [string, string] => [String(a), String(b)]);
      const before = await stocks(network, ...ends);

      const process = network.processes[away - 1]!;
      await leave(process);
      assertProblem(await master.encKeys(slave, request), 503, NOBODY);
      await comeBack(network, away, process);

      const after = await eventually(async () => {
        const now = await stocks(network, ...ends);
        const settled = now.every((count, i) =>
          count === now[i ^ 1] && before[i]! - count <= burnt[way][Math.floor(i / 2)]!
        );
        return settled && now;
      }, { timeout: 30_000, what: "stocks that came back, but for what was burnt" });

      // What is counted is there: all of it can be had, at both ends.
      for (const [i, [a, b]] of links.entries()) {
        const rest = after[2 * i]!;
        const all = await network.client(a).encKeys(b, { number: rest });
        assert.equal(all.status, 200, `${rest} blocks of ${a} and ${b}: ${all.status === 200 || all.text}`);
        await assertEachReadsOnce(network, all, a, [b]);
      }
      assert.deepEqual(await stocks(network, ...ends), before.map(() => 0));
    });
  }
}

for (
  const { name, spec, links, away, request, peer } of [
    {
      name: "at the other end of a link",
      spec: triangle,
      links: triangleLinks,
      away: 3,
      request: { slave: 2, additional: ["3"] },
      peer: "KME 3 is unreachable",
    },
    {
      name: "behind a relay",
      spec: chain,
      links: chainLinks,
      away: 3,
      request: { slave: 4, additional: [] },
      peer: "KME 2 could not pass the keys on: KME 3 is unreachable",
    },
    {
      name: "behind two relays",
      spec: chain,
      links: chainLinks,
      away: 4,
      request: { slave: 4, additional: [] },
      peer: "KME 2 could not pass the keys on: KME 3 could not pass the keys on: KME 4 is unreachable",
    },
  ]
) {
  Deno.test(`the error for a KME that is down names its id and no internal details, ${name}`, async () => {
    await using network = await startNetwork(
      withOptions(spec, TIMEOUT),
      ...links.map(([a, b]): [number, number, number] => [a, b, 5]),
    );
    const master = network.client(1);
    const options = { additional_slave_SAE_IDs: request.additional };
    // Every KME on the way is known to the others by now, and so is the stock of each link.
    assert.equal((await master.encKeys(request.slave, options)).status, 200);
    await network.processes[away - 1]!.kill();
    assertProblem(await master.encKeys(request.slave, options), 503, NOBODY, [{ peer }]);
  });
}
