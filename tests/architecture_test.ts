/** The rooms of `src` and the diagram of them in docs/architecture.md: imports run one way, and the diagram is true. */
import assert from "node:assert/strict";
import { basename, relative, resolve } from "node:path";

const SRC = resolve(import.meta.dirname!, "../src");
const DOCUMENT = resolve(import.meta.dirname!, "../docs/architecture.md");

/** Every room may import these. */
const COMMON = ["domain", "log", "platform", "rate_limited_log", "version"];

type Graph = ReadonlyMap<string, ReadonlySet<string>>;

/** The directory in `src`, or the name of the file if it is in `src` itself. */
function roomOf(path: string): string {
  return relative(SRC, path).split("/")[0]!.replace(/\.ts$/, "");
}

async function* sourcesIn(directory: string): AsyncGenerator<string> {
  for await (const { name, isDirectory } of Deno.readDir(directory)) {
    const path = `${directory}/${name}`;
    if (isDirectory) yield* sourcesIn(path);
    else if (name.endsWith(".ts")) yield path;
  }
}

async function importsBetweenRooms(): Promise<Graph> {
  const graph = new Map<string, Set<string>>();
  for await (const path of sourcesIn(SRC)) {
    const room = roomOf(path);
    const targets = graph.getOrInsertComputed(room, () => new Set());
    const text = await Deno.readTextFile(path);
    for (const [, specifier] of text.matchAll(/(?:\bfrom|\bimport\(?)\s*"(\.[^"]+)"/g)) {
      const target = roomOf(resolve(path, "..", specifier!));
      if (target !== room) targets.add(target);
    }
  }
  return graph;
}

/** Edges as `a --> b`, sorted, without the rooms that all may import. */
function edgesOf(graph: Graph): string[] {
  return [...graph].flatMap(([room, targets]) =>
    [...targets].filter((target) => !COMMON.includes(target)).map((target) => `${room} --> ${target}`)
  ).sort();
}

/** `a --> b & c` as one edge for each target. */
async function drawnEdges(): Promise<string[]> {
  const section = (await Deno.readTextFile(DOCUMENT)).split("\n## Rooms\n")[1]!.split("\n## ")[0]!;
  const diagram = /```mermaid\n([\s\S]*?)```/.exec(section)![1]!;
  return [...diagram.matchAll(/^ +(\w+) --> ([\w &]+)$/gm)].flatMap(([, room, targets]) =>
    targets!.split(" & ").map((target) => `${room} --> ${target}`)
  ).sort();
}

/** File names that occur in more than one directory. */
function repeatedNames(paths: readonly string[]): string[] {
  const names = paths.map((path) => basename(path));
  return [...new Set(names.filter((name, i) => names.indexOf(name) !== i))].sort();
}

/** A way from a room back to itself, if there is one. */
function cycleIn(graph: Graph): string[] | undefined {
  const finished = new Set<string>();
  const visit = (room: string, way: readonly string[]): string[] | undefined => {
    if (way.includes(room)) return [...way.slice(way.indexOf(room)), room];
    if (finished.has(room)) return undefined;
    for (const target of graph.get(room) ?? []) {
      const cycle = visit(target, [...way, room]);
      if (cycle !== undefined) return cycle;
    }
    finished.add(room);
    return undefined;
  };
  for (const room of graph.keys()) {
    const cycle = visit(room, []);
    if (cycle !== undefined) return cycle;
  }
  return undefined;
}

Deno.test("imports between rooms run one way", async () => {
  assert.equal(cycleIn(await importsBetweenRooms()), undefined);
});

Deno.test("docs/architecture.md draws the imports between rooms as they are", async () => {
  const actual = edgesOf(await importsBetweenRooms());
  const drawn = await drawnEdges();
  assert.ok(actual.length > 20);
  assert.deepEqual(actual.filter((edge) => !drawn.includes(edge)), [], "not drawn");
  assert.deepEqual(drawn.filter((edge) => !actual.includes(edge)), [], "drawn, but not there");
});

Deno.test("domain imports no other room", async () => {
  assert.deepEqual([...(await importsBetweenRooms()).get("domain") ?? []], []);
});

Deno.test("docs/architecture.md describes every room", async () => {
  const text = await Deno.readTextFile(DOCUMENT);
  for (const room of (await importsBetweenRooms()).keys()) {
    if (COMMON.includes(room) && room !== "domain") continue;
    assert.match(text, new RegExp(`^\\|[^|]*\`${room}(?:/|\\.ts)\``, "m"), room);
  }
});

Deno.test("no two files of src have the same name", async () => {
  const paths = await Array.fromAsync(sourcesIn(SRC));
  assert.deepEqual(repeatedNames(paths), []);
  assert.deepEqual(repeatedNames(["/src/a/one.ts", "/src/b/two.ts", "/src/c/one.ts"]), ["one.ts"]);
});

Deno.test("a cycle and a missing edge would be found", () => {
  const graph = new Map([["a", new Set(["b"])], ["b", new Set(["c", "domain"])], ["c", new Set(["a"])]]);
  assert.deepEqual(cycleIn(graph), ["a", "b", "c", "a"]);
  assert.deepEqual(edgesOf(graph), ["a --> b", "b --> c", "c --> a"]);
});
