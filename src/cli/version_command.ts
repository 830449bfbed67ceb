/** `kme version`. */
import { VERSION } from "../version.ts";
import { command } from "./command.ts";

export const versionCommand = command({
  name: "version",
  summary: "print the version",
  usage: "",
  description: ["Prints the version of this program."],
  options: {},
  exitCodes: { 0: "done", 2: "wrong command line" },
  run() {
    console.log(`kme ${VERSION}`);
    return 0;
  },
});
