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
  // The answer to a HEAD would otherwise announce a body of no bytes.
  if (c.req.raw.method === "HEAD") c.header("content-length", String(Buffer.byteLength(body)));
  return c.body(body, status, { ...JSON_HEADERS, ...headers });
}
