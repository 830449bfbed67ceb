/** JSON answers. */
import { Buffer } from "node:buffer";
import type { Context } from "hono";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import { JSON_HEADERS, jsonBody } from "../tls/json_body.ts";

/** Answers with `json`, which is text already, and a newline. */
export function answerJson(
  c: Context,
  json: string,
  status: ContentfulStatusCode = 200,
  headers: Readonly<Record<string, string>> = {},
): Response {
  const body = jsonBody(json);
  const all: Record<string, string> = { ...JSON_HEADERS, ...headers };
  // The answer to a HEAD would otherwise announce a body of no bytes.
  if (c.req.raw.method === "HEAD") all["content-length"] = String(Buffer.byteLength(body));
  // Not made by the context, which copies several headers one by one: that takes longer than the rest of a short request.
  return new Response(body, { status, headers: all });
}
