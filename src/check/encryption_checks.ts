/** Checks whether stored keys are encrypted, and whether the master key is that of the database. */
import type { ThisKme } from "../config/config.ts";
import { errorMessage } from "../domain/text.ts";
import { encryptionObstacle } from "../store/encryption/data_keys.ts";
import { readMasterKey } from "../store/encryption/master_key.ts";
import { type CheckLine, configError, environmentError, ok } from "./check_line.ts";
import type { DatabaseLook } from "./database_checks.ts";

const MEMBER = "this_kme.store_encryption";

export async function checkEncryption(
  { storeEncryption }: ThisKme,
  { found }: DatabaseLook,
): Promise<CheckLine[]> {
  const state = "inspection" in found && found.inspection.kind === "seen"
    ? found.inspection.encryption
    : undefined;
  if (storeEncryption === undefined) {
    const obstacle = state && await encryptionObstacle(state, undefined);
    return [
      obstacle === undefined
        ? ok(MEMBER, "off: stored keys are in the clear in the database; see docs/security.md")
        : environmentError(MEMBER, ...split(obstacle)),
    ];
  }
  let key: Uint8Array;
  try {
    key = await readMasterKey(storeEncryption);
  } catch (error) {
    const message = errorMessage(error).replace(`${MEMBER}: `, "");
    return [configError(MEMBER, ...split(message))];
  }
  const obstacle = state && await encryptionObstacle(state, key);
  key.fill(0);
  return [
    obstacle === undefined
      ? ok(
        MEMBER,
        `stored keys are encrypted, with the key of ${
          storeEncryption.kind === "file" ? "key_file" : "key_command"
        }`,
      )
      : environmentError(MEMBER, ...split(obstacle)),
  ];
}

/** What is wrong, and after the semicolon what would be right. */
function split(message: string): [detail: string, fix: string] {
  const at = message.indexOf("; ");
  return at < 0 ? [message, "see docs/operations.md"] : [message.slice(0, at), message.slice(at + 2)];
}
