import assert from "node:assert/strict";
import { makeCheckedNetwork } from "../../../src/tools/certs/make_network.ts";
import { readNetwork } from "../../../src/tools/certs/network_file.ts";
import { formatMistake, loadConfig } from "../../../src/config/load.ts";
import { makeTempDir } from "../../harness/temp_dir.ts";
import { copy, readJson5 } from "./network_files.ts";

const ROOT = new URL("../../", import.meta.url);

Deno.test("the sample certificates are whole, in date and those of the sample configurations", async () => {
  await using out = await makeTempDir();
  const certs = new URL("certs/", ROOT);
  await copy(certs, out.path);
  const network = await readNetwork(`${out.path}/network.json5`);
  const { written, warnings, kmes } = await makeCheckedNetwork(network, out.path, { configs: true });
  assert.deepEqual(warnings, []);
  assert.deepEqual(written, [kmes.get("1")!.config, kmes.get("2")!.config], "no certificate was missing");
  for (const kme of kmes.values()) {
    const name = `config_kme${kme.id}.json5`;
    const made = JSON.stringify(await readJson5(kme.config!)).replaceAll(`${out.path}/raw_keys`, "raw_keys")
      .replaceAll(out.path, "certs");
    assert.deepEqual(await readJson5(new URL(name, ROOT).pathname), JSON.parse(made), name);
  }
});

Deno.test("the sample configurations are good once the key directories are there", async () => {
  await using directory = await makeTempDir();
  await copy(new URL("certs/", ROOT), `${directory.path}/certs`);
  for (const name of ["kme-1-1", "kme-1-2", "kme-2-1", "kme-2-2"]) {
    await Deno.mkdir(`${directory.path}/raw_keys/${name}`, { recursive: true });
  }
  for (const name of ["config_kme1.json5", "config_kme2.json5"]) {
    await Deno.copyFile(new URL(name, ROOT), `${directory.path}/${name}`);
    const loaded = await loadConfig(name, { cwd: directory.path });
    assert.ok("config" in loaded, "mistakes" in loaded ? loaded.mistakes.map(formatMistake).join("\n") : "");
  }
});
