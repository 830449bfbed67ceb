/** `kme store`: changes the keys that the stored keys are encrypted with. */
import { command, loadConfiguration, UsageError } from "./command.ts";
import { errorMessage } from "../domain/text.ts";

export const storeCommand = command({
  name: "store",
  summary: "encrypt the stored keys with a new key",
  usage: "rekey CONFIG [--new-key-file FILE]",
  description: [
    "kme store rekey encrypts the bits of all stored blocks and keys with a new data key: to turn encryption on for a database " +
    "that has keys in the clear, or to change keys. this_kme.store_encryption has to be set. Run it while the KME does not run.",
    "With --new-key-file it also changes the master key. From then on only the new one opens the database: name it in the " +
    "configuration before the next start. If the command is interrupted, run it again as before; it continues.",
  ],
  operand: {
    name: "ACTION CONFIG",
    what: "action, rekey",
    many: true,
    actions: ["rekey"],
    complete: "file",
  },
  options: {
    "new-key-file": {
      value: "FILE",
      description:
        "file with the new master key, in a form of key_file; /dev/stdin reads it from another program",
    },
  },
  exitCodes: {
    0: "done",
    1: "the database or a key cannot be used",
    2: "mistake in the configuration, or wrong command line",
  },
  async run({ "new-key-file": newKeyFile }, [action, file, ...rest]) {
    if (action !== "rekey") throw new UsageError(`unknown action ${action}; use rekey`);
    if (file === undefined) throw new UsageError("the configuration file is missing");
    if (rest.length > 0) throw new UsageError(`unexpected argument ${rest[0]}`);
    const { config } = await loadConfiguration(file);
    const { database } = config.thisKme;
    const { fullNameOf } = await import("../check/database_checks.ts");
    const { recordCommand } = await import("../audit/configured_trail.ts");
    const { rekeyStopped } = await import("../rollback_guard/rekey_stopped.ts");
    console.log(`database: ${fullNameOf(database)}`);
    try {
      const rekeyed = await recordCommand(
        config.thisKme,
        `store rekey ${file}${newKeyFile === undefined ? "" : ` --new-key-file ${newKeyFile}`}`,
        () => rekeyStopped(config, newKeyFile),
        ({ encrypted, damaged }) => `${encrypted} encrypted, ${damaged} damaged`,
      );
      const was = {
        clear: "; they were in the clear before",
        encrypted: "",
        unfinished: "; the rest was done before",
      };
      console.log(
        `encrypted with a new key: the bits of ${rekeyed.encrypted} blocks and keys${was[rekeyed.before]}`,
      );
      if (rekeyed.damaged > 0) {
        console.log(
          `left as they are: the bits of ${rekeyed.damaged} blocks and keys, which were altered or moved before and cannot be used`,
        );
      }
      if (newKeyFile !== undefined) {
        console.log(`only ${newKeyFile} opens the database now: name it in this_kme.store_encryption`);
      }
      if (rekeyed.before === "clear" && database.kind !== "sqlite") {
        console.log(
          "logs, backups and replicas of the server still have the bits that were in the clear: see docs/operations.md",
        );
      }
      return 0;
    } catch (error) {
      throw new Error(`${file}: ${errorMessage(error)}`, { cause: error });
    }
  },
});
