/** Members that come twice in a JSON object, which `JSON.parse` does not report. */

/** Strings, and the punctuation that says where they are. */
const TOKEN = /"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\]:]/g;

/**
 * The name of the first member that comes twice in one object, at any depth; `undefined` if there is none.
 *
 * @param json valid JSON.
 */
export function repeatedMember(json: string): string | undefined {
  // The names so far in each object that has not ended; an array has none.
  const open: Set<string>[] = [];
  let text = "";
  for (const [token] of json.matchAll(TOKEN)) {
    if (token === "{" || token === "[") open.push(new Set());
    else if (token === "}" || token === "]") open.pop();
    else if (token !== ":") text = token;
    else {
      const name = JSON.parse(text) as string;
      const names = open.at(-1)!;
      if (names.has(name)) return name;
      names.add(name);
    }
  }
  return undefined;
}
