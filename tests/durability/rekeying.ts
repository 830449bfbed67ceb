/** Rekeys an SQLite database and prints a line for each transaction, so that a test can kill it after some of them. */
import { readMasterKey } from "../../src/store/encryption/master_key.ts";
import { rekey } from "../../src/store/encryption/rekey.ts";

const [path, keyFile, newKeyFile] = Deno.args as [string, string, string];
const keyOf = (path: string) => readMasterKey({ kind: "file", path });

await rekey({
  database: { kind: "sqlite", path },
  thisKme: { text: "1", integer: true },
  masterKey: await keyOf(keyFile),
  newMasterKey: await keyOf(newKeyFile),
  onProgress: () => console.log("a transaction is done"),
});
