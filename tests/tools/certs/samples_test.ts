import assert from "node:assert/strict";
import { makeCheckedNetwork } from "../../../src/tools/certs/make_network.ts";
import { readNetwork } from "../../../src/tools/certs/network_file.ts";
import { freePorts } from "../../harness/free_port.ts";
import { startKme } from "../../harness/kme_process.ts";
import { makeTempDir } from "../../harness/temp_dir.ts";
import { copy, readJson5 } from "./network_files.ts";

const ROOT = new URL("../../../", import.meta.url);

Deno.test("the sample certificates are whole, in date and those of the sample configurations", async () => {
  await using out = await makeTempDir();
  const certs = new URL("certs/", ROOT);
  await copy(certs, out.path);
  const network = await readNetwork(`${out.path}/network.json5`);
  const { written, warnings, kmes } = await makeCheckedNetwork(network, out.path, { configs: true });
  assert.deepEqual(warnings, []);
  const made = ["1", "2"].flatMap((id) => [`${out.path}/store_kme${id}.key`, kmes.get(id)!.config]);
  assert.deepEqual(written, made, "no certificate was missing");
  for (const kme of kmes.values()) {
    const name = `config_kme${kme.id}.json5`;
    const config = JSON.parse(
      JSON.stringify(await readJson5(kme.config!)).replaceAll(`${out.path}/raw_keys`, "raw_keys")
        .replaceAll(out.path, "certs"),
    );
    // A key for stored keys that everybody has would protect nothing, so the samples have none.
    assert.deepEqual(config.this_kme.store_encryption, { key_file: `certs/store_kme${kme.id}.key` });
    delete config.this_kme.store_encryption;
    assert.deepEqual(await readJson5(new URL(name, ROOT).pathname), config, name);
  }
});

Deno.test("a KME starts with the sample configurations in a fresh clone", async () => {
  await using clone = await makeTempDir();
  await copy(new URL("certs/", ROOT), `${clone.path}/certs`);
  for (const link of ["kme-1-1", "kme-1-2", "kme-2-1", "kme-2-2"]) {
    // A directory is in a clone because of a file in it.
    const placeholder = `raw_keys/${link}/.gitkeep`;
    await Deno.mkdir(`${clone.path}/raw_keys/${link}`, { recursive: true });
    await Deno.copyFile(new URL(placeholder, ROOT), `${clone.path}/${placeholder}`);
  }
  for (const name of ["config_kme1.json5", "config_kme2.json5"]) {
    const text = await Deno.readTextFile(new URL(name, ROOT));
    const ports = [...new Set(text.match(/(?<=127\.0\.0\.1:)\d+/g))];
    const free = freePorts(ports.length);
    const moved = ports.reduce(
      (text, port, i) => text.replaceAll(`127.0.0.1:${port}`, `127.0.0.1:${free[i]}`),
      text,
    );
    await Deno.writeTextFile(`${clone.path}/${name}`, moved);
    const kme = await startKme(name, { cwd: clone.path });
    assert.equal(await kme.stop(), 0);
  }
});
