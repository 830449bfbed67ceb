/** The master key: the forms of a key file, its mode, and the output of a command. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import type { StoreEncryption } from "../../src/config/config.ts";
import { StoreUnusable } from "../../src/domain/store_errors.ts";
import { readMasterKey } from "../../src/store/encryption/master_key.ts";
import { makeTempDir } from "../harness/temp_dir.ts";

const onUnix = Deno.build.os !== "windows";
const key = Uint8Array.from(randomBytes(32));

function refused(source: StoreEncryption, line: RegExp, limit?: number): Promise<void> {
  return assert.rejects(readMasterKey(source, limit), (error: unknown) => {
    assert.ok(error instanceof StoreUnusable, String(error));
    assert.match(error.message, line);
    assert.ok(!error.message.includes("\n") && !error.message.includes(key.toHex()), error.message);
    return true;
  });
}

Deno.test("a key file has 32 bytes, raw, as hexadecimal digits or in base64", async () => {
  await using dir = await makeTempDir("kme-keys-");
  const path = `${dir.path}/test-store.key`;
  const write = (content: string | Uint8Array) =>
    Deno.writeFile(path, typeof content === "string" ? new TextEncoder().encode(content) : content, {
      mode: 0o600,
    });
  const url = key.toBase64().replaceAll("+", "-").replaceAll("/", "_");
  for (
    const content of [
      key,
      key.toHex(),
      `${key.toHex().toUpperCase()}\r\n`,
      `${key.toBase64()}\n`,
      url.replace("=", ""),
    ]
  ) {
    await write(content);
    assert.deepEqual(await readMasterKey({ kind: "file", path }), key);
  }
  for (const content of ["", key.subarray(1), `${key.toHex()}0`, "x".repeat(44), new Uint8Array(5000)]) {
    await write(content);
    await refused(
      { kind: "file", path },
      /bytes that are not a key; it must be 32 bytes, raw, as 64 hexadecimal/,
    );
  }
  await refused({ kind: "file", path: `${dir.path}/none` }, /none" cannot be read/);
});

Deno.test({
  name: "a key file that all users may read is refused; a credential of systemd is found",
  ignore: !onUnix,
  fn: async () => {
    await using dir = await makeTempDir("kme-keys-");
    const path = `${dir.path}/test-store.key`;
    await Deno.writeTextFile(path, key.toHex());
    for (const mode of [0o644, 0o604, 0o660, 0o602]) {
      await Deno.chmod(path, mode);
      await refused({ kind: "file", path }, /may be read by all users.*chmod 600/);
    }
    for (const mode of [0o600, 0o400, 0o440]) {
      await Deno.chmod(path, mode);
      assert.deepEqual(await readMasterKey({ kind: "file", path }), key);
    }
    const credential = { kind: "file", path: "$CREDENTIALS_DIRECTORY/test-store.key" } as const;
    Deno.env.delete("CREDENTIALS_DIRECTORY");
    await refused(credential, /CREDENTIALS_DIRECTORY is not set/);
    Deno.env.set("CREDENTIALS_DIRECTORY", dir.path);
    try {
      assert.deepEqual(await readMasterKey(credential), key);
    } finally {
      Deno.env.delete("CREDENTIALS_DIRECTORY");
    }
  },
});

Deno.test({
  name: "a key command gives the key; what fails, hangs or gives anything else is refused",
  ignore: !onUnix,
  fn: async () => {
    const command = (script: string) => ({ kind: "command", command: ["/bin/sh", "-c", script] }) as const;
    assert.deepEqual(await readMasterKey(command(`echo ${key.toHex()}; echo noise >&2`)), key);
    await refused(
      command(`echo ${key.toHex()}; echo no such handle >&2; exit 3`),
      /exit code 3: no such handle$/,
    );
    await refused(command("echo hello"), /6 bytes that are not a key/);
    await refused(command("yes"), /bytes that are not a key|failed/, 60_000);
    await refused(command("exec sleep 600"), /did not end within 0.3 s/, 300);
    await refused({ kind: "command", command: ["/nowhere/key"] }, /"\/nowhere\/key" cannot be run/);
  },
});
