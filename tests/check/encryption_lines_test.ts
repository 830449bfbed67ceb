/** What `kme check` says about the encryption of stored keys. */
import assert from "node:assert/strict";
import { exitCode } from "../../src/check/check_line.ts";
import { readMasterKey } from "../../src/store/encryption/master_key.ts";
import { rekey } from "../../src/store/encryption/rekey.ts";
import { Store } from "../../src/store/store.ts";
import { encryptStore } from "../harness/stored_bits.ts";
import type { TestNetwork } from "../harness/test_network.ts";
import { fill } from "../store/store_fixture.ts";
import { checked, configOf, found, twoKmes } from "./check_fixture.ts";

const MEMBER = "this_kme.store_encryption";

async function configure(network: TestNetwork, value: unknown): Promise<void> {
  await network.writeConfig(1, ({ this_kme }) => {
    if (value === undefined) delete this_kme.store_encryption;
    else this_kme.store_encryption = value;
  });
}

/** Stores blocks as a KME with the configuration does. */
async function useStore(network: TestNetwork, blocks: number): Promise<void> {
  const { thisKme } = await configOf(network);
  const store = await Store.open({
    database: thisKme.database,
    encryption: thisKme.storeEncryption,
    thisKme: thisKme.id,
    neighbours: [],
  });
  await fill(store, blocks);
  await store.close();
}

Deno.test("whether stored keys are encrypted is said, and by which key", async () => {
  await using network = await twoKmes("sqlite");
  found(await checked(network), "ok", MEMBER, /^off: stored keys are in the clear in the database/);
  const path = await encryptStore(network, 1);
  found(await checked(network), "ok", MEMBER, /^stored keys are encrypted, with the key of key_file$/);
  await useStore(network, 1);
  found(await checked(network), "ok", MEMBER, /^stored keys are encrypted, with the key of key_file$/);
  await configure(network, { key_command: ["cat", path] });
  found(await checked(network), "ok", MEMBER, /^stored keys are encrypted, with the key of key_command$/);
});

Deno.test("a master key that is wrong, missing or new for the database is a failure of the environment", async () => {
  await using network = await twoKmes("sqlite");
  await useStore(network, 1500);
  const path = await encryptStore(network, 1);
  const fails = async (detail: RegExp, fix: RegExp) => {
    const lines = await checked(network);
    assert.match(found(lines, "fail", MEMBER, detail).fix!, fix);
    assert.equal(exitCode(lines), 1);
  };
  await fails(
    /are not encrypted, but this_kme.store_encryption is set$/,
    /^encrypt them with: kme store rekey/,
  );
  const { thisKme } = await configOf(network);
  const masterKey = await readMasterKey(thisKme.storeEncryption!);
  const options = { database: thisKme.database, thisKme: thisKme.id, masterKey };
  const onProgress = () => {
    throw new Error("interrupted");
  };
  await assert.rejects(rekey({ ...options, onProgress }), /interrupted/);
  await fails(/^only a part of the keys in the database is encrypted$/, /^continue with: kme store rekey/);
  await rekey(options);
  found(await checked(network), "ok", MEMBER, /^stored keys are encrypted/);
  await configure(network, undefined);
  await fails(/are encrypted, but this_kme.store_encryption is not set$/, /^set it to their master key$/);
  await Deno.writeTextFile(path, "7e57".repeat(16));
  await configure(network, { key_file: path });
  await fails(/is not the master key with which/, /^set it to that key$/);
});

Deno.test("a master key that cannot be read is a mistake in the configuration", async () => {
  await using network = await twoKmes("sqlite");
  const path = await encryptStore(network, 1);
  const fails = async (detail: RegExp, fix: RegExp) => {
    const lines = await checked(network);
    assert.match(found(lines, "fail", MEMBER, detail).fix!, fix);
    assert.equal(exitCode(lines), 2);
  };
  if (Deno.build.os !== "windows") {
    for (const mode of [0o644, 0o660, 0o602]) {
      await Deno.chmod(path, mode);
      await fails(
        new RegExp(
          `key_file ".*" may be read by all users, or written by others \\(mode ${mode.toString(8)}\\)$`,
        ),
        /^run chmod 600 on it$/,
      );
    }
    for (const mode of [0o600, 0o400, 0o640]) {
      await Deno.chmod(path, mode);
      found(await checked(network), "ok", MEMBER, /^stored keys are encrypted/);
    }
    await Deno.chmod(path, 0o600);
  }
  await Deno.writeTextFile(path, "no key");
  await fails(/has 6 bytes that are not a key$/, /^it must be 32 bytes/);
  await Deno.remove(path);
  await fails(/^key_file ".*test-store.key" /, /./);
  await configure(network, { key_command: ["false"] });
  await fails(/^key_command "false" failed with exit code 1$/, /./);
});
