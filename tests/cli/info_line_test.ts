/** Lines of key events look like all other lines of the log. */
import assert from "node:assert/strict";
import { getJsonLinesFormatter, getTextFormatter, type LogRecord } from "@logtape/logtape";
import { formatInfoLine, InfoLine } from "../../src/log/info_line.ts";

const AT = Date.UTC(2026, 10, 27, 1, 2, 3, 45);

for (const text of ["[Alice] Key 1 activated", 'a "quote" and {braces}', "ä — 鍵"]) {
  Deno.test(`a line at info has the form of the logger's: ${text}`, () => {
    const record: LogRecord = {
      category: ["kme", "event"],
      level: "info",
      message: [text],
      rawMessage: text,
      timestamp: AT,
      properties: {},
    };
    const line = new InfoLine("event", AT, text);
    const asText = getTextFormatter({ timestamp: "rfc3339", level: "FULL", category: "." });
    assert.equal(formatInfoLine(line, false), asText(record));
    const asJson = getJsonLinesFormatter({ properties: "flatten" });
    assert.equal(formatInfoLine(line, true), asJson(record));
  });
}

Deno.test("a line break in the text does not begin a line of the log", () => {
  for (const json of [false, true]) {
    const line = formatInfoLine(new InfoLine("event", AT, "one\ntwo\u2028three"), json);
    assert.equal(line.split("\n").length, 2, line);
  }
});
