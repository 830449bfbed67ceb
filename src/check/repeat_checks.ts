/** Says whether answers with keys are repeated, since their bits are then kept for longer. */
import type { ThisKme } from "../config/config.ts";
import { type CheckLine, ok } from "./check_line.ts";

export function checkRepeats(
  { answerRepeatSeconds, database }: Pick<ThisKme, "answerRepeatSeconds" | "database">,
): CheckLine[] {
  if (answerRepeatSeconds === 0) return [];
  const restart = database.kind === "memory" ? ", but not after a restart: the database is in memory" : "";
  return [
    ok(
      "this_kme.answer_repeat_seconds",
      `an SAE may fetch a key again for ${answerRepeatSeconds} s with the same certificate${restart}; ` +
        "the bits of the key stay in the database for as long",
    ),
  ];
}
