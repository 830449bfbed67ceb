/** Wire formats that SAEs send (clauses 6.2 and 6.4), checked member by member. */
import { z } from "zod";
import type { KeyRequest } from "../delivery/delivery.ts";
import { InvalidRequest } from "../domain/refusals.ts";
import { parseExtensions } from "./extensions.ts";
import { type KeyIdBytes, parseKeyId } from "../domain/block.ts";
import { sameBytes } from "../domain/bytes.ts";
import { isBlank } from "../http/body.ts";
import { checkParameters } from "../http/sae_requests.ts";
import { formatMember } from "../domain/member_path.ts";
import { repeatedMember } from "./repeated_member.ts";

/** `null` means absent. */
const optional = <T extends z.ZodType>(schema: T) =>
  schema.nullish().transform((value) => value ?? undefined);

/** An object with all members of the JSON: zod's record leaves out a member named `__proto__`. */
const jsonObject = z.unknown()
  .refine(
    (value) => typeof value === "object" && value !== null && !Array.isArray(value),
    "Invalid input: expected object",
  )
  .meta({ type: "object" })
  .transform((value) => value as Readonly<Record<string, unknown>>);

const extensionParameters = z.array(jsonObject);

const number = z.int().min(1);
/** Delivery checks its range. */
const size = z.int();

/** Key request data format, clause 6.2. */
export const keyRequestSchema = z.object({
  number: optional(number),
  size: optional(size),
  additional_slave_SAE_IDs: optional(z.array(z.string())),
  extension_mandatory: optional(extensionParameters),
  extension_optional: optional(extensionParameters),
});

/** Key IDs data format, clause 6.4. */
export const keyIdsSchema = z.object({
  key_IDs: z.array(z.object({ key_ID: z.string() })).min(1),
});

export interface RequestDefaults {
  /** Bits. */
  readonly size: number;
}

/**
 * A Key request from the parameters of the URL and a body, of which each may be empty. A POST may say `number` and `size` in
 * the URL too, as some clients do, but not otherwise than in its body.
 *
 * @throws InvalidRequest
 */
export function parseKeyRequest(
  parameters: URLSearchParams,
  body: string,
  defaults: RequestDefaults,
): KeyRequest {
  const inUrl = parameters.size === 0 ? {} : parseKeyRequestParameters(parameters);
  const wire: Partial<z.output<typeof keyRequestSchema>> = isBlank(body)
    ? {}
    : check(keyRequestSchema, parseJson(body));
  return {
    ...parseExtensions(wire.extension_mandatory ?? []),
    number: agreed("number", inUrl.number, wire.number) ?? 1,
    size: agreed("size", inUrl.size, wire.size) ?? defaults.size,
    additionalSlaves: wire.additional_slave_SAE_IDs ?? [],
  };
}

/** `number` and `size`, which Juniper's automation calls `key_size`. */
function parseKeyRequestParameters(parameters: URLSearchParams): { number?: number; size?: number } {
  checkParameters(parameters, ["number", "size", "key_size"]);
  const keySize = integerParameter(parameters, "key_size", size);
  const plainSize = integerParameter(parameters, "size", size);
  if (keySize !== undefined && plainSize !== undefined && keySize !== plainSize) {
    throw new InvalidRequest("key_size: means size, which has another value");
  }
  return { number: integerParameter(parameters, "number", number), size: plainSize ?? keySize };
}

/** @throws InvalidRequest if the URL and the body say different things. */
function agreed(name: string, inUrl: number | undefined, inBody: number | undefined): number | undefined {
  if (inUrl !== undefined && inBody !== undefined && inUrl !== inBody) {
    throw new InvalidRequest(`${name}: the URL and the body have different values`);
  }
  return inUrl ?? inBody;
}

/**
 * key_IDs from the URL or from a body, in its order. Other parameters of the URL are ignored: nothing can be consumed by
 * mistake.
 *
 * @throws InvalidRequest
 */
export function parseKeyIds(parameters: URLSearchParams, body: string): KeyIdBytes[] {
  const inUrl = parameters.getAll("key_ID");
  if (inUrl.length > 1) throw new InvalidRequest("key_ID: is given more than once");
  const [one] = inUrl.map((text) => requireKeyId(text, "key_ID"));
  if (isBlank(body)) {
    if (one !== undefined) return [one];
    throw new InvalidRequest("key_IDs: is missing");
  }
  const ids = check(keyIdsSchema, parseJson(body)).key_IDs.map(({ key_ID }, i) =>
    requireKeyId(key_ID, `key_IDs[${i}].key_ID`)
  );
  if (one !== undefined && !(ids.length === 1 && sameBytes(ids[0]!, one))) {
    throw new InvalidRequest("key_ID: the URL and the body have different values");
  }
  return ids;
}

/**
 * The one key_ID of a GET. Other parameters are ignored: nothing can be consumed by mistake.
 *
 * @throws InvalidRequest
 */
export function parseKeyIdParameter(parameters: URLSearchParams): KeyIdBytes[] {
  if (!parameters.has("key_ID")) throw new InvalidRequest("key_ID: is missing");
  return parseKeyIds(parameters, "");
}

function integerParameter(
  parameters: URLSearchParams,
  name: string,
  schema: z.ZodType<number>,
): number | undefined {
  const text = parameters.get(name);
  if (text === null) return undefined;
  if (!/^-?\d{1,100}$/.test(text)) throw new InvalidRequest(`${name}: is not an integer`);
  const result = schema.safeParse(Number(text));
  if (result.success) return result.data;
  throw invalid({ ...result.error.issues[0]!, path: [name] }, 0);
}

function requireKeyId(text: string, member: string): KeyIdBytes {
  const id = parseKeyId(text);
  if (id === undefined) throw new InvalidRequest(`${member}: is not a UUID`);
  return id;
}

/** @throws InvalidRequest also for a member that comes twice: which of the two is meant is not known. */
function parseJson(body: string): unknown {
  let value;
  try {
    value = JSON.parse(body);
  } catch {
    throw new InvalidRequest("the body is not JSON");
  }
  const repeated = repeatedMember(body);
  if (repeated !== undefined) throw new InvalidRequest(`${repeated}: is given more than once`);
  return value;
}

/** Elements of lists that are checked at a time. */
const ELEMENTS_A_STEP = 64;

/** Maximum elements of a list. A body has room for 1,300 key_IDs; a KME can be configured for 1,000 additional slaves. */
const MAX_ELEMENTS = 2000;

/**
 * Checks a value and stops at the first mistake. The library would report every wrong element of a list, which for a full
 * body takes a hundred times as long as reading it.
 *
 * @throws InvalidRequest
 */
function check<T extends z.ZodObject>(schema: T, value: unknown): z.output<T> {
  const [longest, name] = longestList(schema, value);
  if (longest > MAX_ELEMENTS) throw new InvalidRequest(`${name}: has more than ${MAX_ELEMENTS} elements`);
  for (let start = 0; longest > ELEMENTS_A_STEP && start < longest; start += ELEMENTS_A_STEP) {
    const { error } = schema.safeParse(withPartsOfLists(schema, value, start));
    if (error !== undefined) throw invalid(error.issues[0]!, start);
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw invalid(result.error.issues[0]!, 0);
}

function longestList(schema: z.ZodObject, value: unknown): [length: number, name: string] {
  let longest: [number, string] = [0, ""];
  if (typeof value !== "object" || value === null || Array.isArray(value)) return longest;
  for (const name of Object.keys(schema.shape)) {
    const member = (value as Record<string, unknown>)[name];
    if (Array.isArray(member) && member.length > longest[0]) longest = [member.length, name];
  }
  return longest;
}

/** The members in the schema; of lists only the elements from `start`. */
function withPartsOfLists(schema: z.ZodObject, value: unknown, start: number): Record<string, unknown> {
  const object = value as Record<string, unknown>;
  return Object.fromEntries(
    Object.keys(schema.shape).filter((name) => Object.hasOwn(object, name)).map((name) => {
      const member = object[name];
      return [name, Array.isArray(member) ? member.slice(start, start + ELEMENTS_A_STEP) : member];
    }),
  );
}

/** @param start position in the whole list of the element that has index 0 in the issue. */
function invalid({ path, message }: z.core.$ZodIssue, start: number): InvalidRequest {
  const [name, index, ...rest] = path;
  const member = formatMember(typeof index === "number" ? [name!, index + start, ...rest] : path);
  return new InvalidRequest(`${member === "" ? "" : `${member}: `}${lowerFirst(message)}`);
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}
