/** Parses a file that may have mistakes, so that one mistake does not hide others. */
import { z } from "zod";
import type { Findings } from "./findings.ts";
import { type ConfigFile, configSchema, kindOf } from "./file_schema.ts";
import { nearest } from "../domain/spelling.ts";
import type { MemberPath } from "../domain/member_path.ts";
import type { CertificateSelector } from "../x509/certificate_selector.ts";

/** The same type with every member optional. */
export type Part<T> = T extends readonly CertificateSelector[] ? T
  : T extends readonly (infer Element)[] ? (Part<Element> | undefined)[]
  : T extends { text: string } | { hostname: string } | { kind: string } ? T
  : T extends object ? { [Name in keyof T]?: Part<T[Name]> }
  : T;

export interface PartialConfig {
  /** Members that are missing or have a mistake are undefined. */
  readonly content: Part<ConfigFile>;
  /** Whether the file has a value for a member, correct or not, if only under a misspelt name. */
  given(path: MemberPath): boolean;
}

/** Checks each member by itself and reports its mistakes. */
export function readPartialConfig(raw: unknown, findings: Findings): PartialConfig {
  // The schema has a message for every mistake; should one be missing, the library's own is not shown.
  const error = ({ input }: { input?: unknown }) => `${kindOf(input)} is wrong here; see docs/config.md`;
  const result = configSchema.safeParse(raw, { error });
  const issues = result.error?.issues ?? [];
  const misspelt = new Set<string>();
  for (const issue of issues) {
    if (issue.code !== "unrecognized_keys") continue;
    for (const name of issue.keys) {
      const { message, meant } = unknownMember(name, issue.path as MemberPath);
      if (meant !== undefined) misspelt.add(JSON.stringify([...issue.path, meant]));
      findings.mistake([...issue.path as MemberPath, name], message);
    }
  }
  const reported = new Set<string>();
  for (const issue of issues) {
    const key = JSON.stringify(issue.path);
    // One mistake per member: a misspelt name is not reported as missing too.
    if (issue.code === "unrecognized_keys" || reported.has(key) || misspelt.has(key)) continue;
    reported.add(key);
    findings.mistake(issue.path as MemberPath, issue.message);
  }
  return {
    content: (result.data ?? correctPart(configSchema, raw) ?? {}) as Part<ConfigFile>,
    given: (path) => (memberOf(raw, path) ?? undefined) !== undefined || misspelt.has(JSON.stringify(path)),
  };
}

/** The correct members of a value that is not correct as a whole. */
function correctPart(schema: z.ZodType, raw: unknown): unknown {
  const object = schema instanceof z.ZodObject ? schema : optionalObject(schema);
  if (object !== undefined) {
    if (!isObject(raw)) return undefined;
    return Object.fromEntries(
      Object.entries(object.shape).map((
        [name, member],
      ) => [name, correctPart(member as z.ZodType, own(raw, name))]),
    );
  }
  if (schema instanceof z.ZodArray) {
    return Array.isArray(raw)
      ? raw.map((element) => correctPart(schema.element as z.ZodType, element))
      : undefined;
  }
  return schema.safeParse(raw).data;
}

/** The object that a member has which may be absent. */
function optionalObject(schema: z.ZodType): z.ZodObject | undefined {
  const inner = schema instanceof z.ZodPipe ? schema.in : schema;
  const object = inner instanceof z.ZodOptional ? written(inner) : undefined;
  return object instanceof z.ZodObject ? object : undefined;
}

function unknownMember(name: string, path: MemberPath): { message: string; meant?: string } {
  const known = namesAt(path);
  const meant = nearest(name, known);
  if (meant !== undefined) {
    const hint = meant.toLowerCase() === name.toLowerCase()
      ? "upper and lower case differ"
      : "did you mean it?";
    return { message: `unknown member; the nearest known name is ${meant} (${hint})`, meant };
  }
  const homes = homesOf(name, configSchema, "");
  if (homes.length > 0) return { message: `unknown member here; it belongs to ${homes.join(" or ")}` };
  return { message: `unknown member; known here are ${known.join(", ")}` };
}

function namesAt(path: MemberPath): string[] {
  let schema: unknown = configSchema;
  for (const step of path) {
    if (schema instanceof z.ZodArray) schema = written(schema.element);
    else if (schema instanceof z.ZodObject) schema = written(schema.shape[step]);
  }
  return schema instanceof z.ZodObject ? Object.keys(schema.shape) : [];
}

/** The schema of what is written in the file: before transformations, not null. */
function written(schema: unknown): unknown {
  if (schema instanceof z.ZodPipe) return written(schema.in);
  return schema instanceof z.ZodOptional || schema instanceof z.ZodNullable
    ? written(schema.unwrap())
    : schema;
}

/** The objects that have a member of this name. */
function homesOf(name: string, outer: unknown, place: string): string[] {
  const schema = written(outer);
  if (schema instanceof z.ZodArray) return homesOf(name, schema.element, `${place}[]`);
  if (!(schema instanceof z.ZodObject)) return [];
  return Object.entries(schema.shape).flatMap(([member, inner]) => [
    ...member === name ? [place === "" ? "the outermost object" : place] : [],
    ...homesOf(name, inner, place === "" ? member : `${place}.${member}`),
  ]);
}

function memberOf(raw: unknown, path: MemberPath): unknown {
  return path.reduce<unknown>(
    (value, step) =>
      Array.isArray(value) && typeof step === "number"
        ? value[step]
        : isObject(value)
        ? own(value, String(step))
        : undefined,
    raw,
  );
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function own(object: Record<string, unknown>, name: string): unknown {
  return Object.hasOwn(object, name) ? object[name] : undefined;
}
