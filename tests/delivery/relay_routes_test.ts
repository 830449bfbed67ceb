/** Routes that lead nowhere are told at the start: exit code 2, with the member. */
import assert from "node:assert/strict";
import { runKme } from "../harness/kme_process.ts";
import { type ConfigFile, makeTestNetwork } from "../harness/test_network.ts";
import { chain } from "./test_networks.ts";

const other = (config: ConfigFile, id: number) => config.other_kmes.find((kme) => kme.id === id)!;

const MISTAKES: [name: string, edit: (config: ConfigFile) => void, line: RegExp][] = [
  [
    "two KMEs that are reached through each other",
    (config) => other(config, 3).reached_through = 4,
    /other_kmes\[\d\]\.reached_through: is a loop \(.*3 -> 4 -> 3|4 -> 3 -> 4/,
  ],
  [
    "a KME that is reached through itself",
    (config) => other(config, 4).reached_through = 4,
    /other_kmes\[\d\]\.reached_through: .*through itself/,
  ],
  [
    "a KME that is reached through this one",
    (config) => other(config, 4).reached_through = 1,
    /other_kmes\[\d\]\.reached_through: 1 is this KME/,
  ],
  [
    "a relay that is not in the file",
    (config) => other(config, 4).reached_through = 9,
    /other_kmes\[\d\]\.reached_through: no KME 9 is configured/,
  ],
  [
    "a KME with neither a link nor a relay",
    (config) => delete other(config, 4).reached_through,
    /other_kmes\[\d\]\.key_directory_to_watch: is missing; .*reached_through/,
  ],
  [
    "a KME with both",
    (config) => other(config, 2).reached_through = 3,
    /other_kmes\[\d\]\.key_directory_to_watch: a KME with reached_through has no direct link/,
  ],
  [
    "an SAE of a KME that no route leads to",
    (config) => config.other_kmes = config.other_kmes.filter(({ id }) => id !== 4),
    /saes\[\d\]\.kme_id: no KME 4 is configured/,
  ],
];

Deno.test("a route that is a loop or has no link at its end stops the start with exit code 2", async () => {
  await using network = await makeTestNetwork(chain);
  const { configPath, config } = network.kme(1);
  const right = structuredClone(config);
  for (const [name, edit, line] of MISTAKES) {
    await network.writeConfig(1, (config) => {
      Object.assign(config, structuredClone(right));
      edit(config);
    });
    const { code, stderr } = await runKme([configPath]);
    assert.equal(code, 2, `${name}: exit code ${code}\n${stderr}`);
    assert.ok(stderr.split("\n").some((text) => line.test(text)), `${name}:\n${stderr}`);
  }
});
