/** Reads request bodies within bounds. */
import { Buffer } from "node:buffer";
import { HttpProblem } from "./problem.ts";

/** Maximum bytes of a body. */
const MAX_BODY_BYTES = 64 * 1024;

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: false });

/**
 * The whole body as text; empty when there is none.
 *
 * @throws HttpProblem 413 over the limit, without reading the rest; 400 when it is not UTF-8 or incomplete.
 */
export async function readBody(request: Request, limit = MAX_BODY_BYTES): Promise<string> {
  try {
    return utf8.decode(await readBodyBytes(request, limit));
  } catch (error) {
    throw error instanceof HttpProblem ? error : new HttpProblem(400, "the body is not UTF-8");
  }
}

/**
 * The whole body; empty when there is none.
 *
 * @throws HttpProblem 413 over the limit, without reading the rest; 400 when it is incomplete.
 */
export async function readBodyBytes(request: Request, limit = MAX_BODY_BYTES): Promise<Uint8Array> {
  const announced = Number(request.headers.get("content-length") ?? 0);
  if (announced > limit) throw new HttpProblem(413, `the body is larger than ${limit} bytes`);
  if (request.body === null) return new Uint8Array();
  const chunks: Uint8Array[] = [];
  let length = 0;
  try {
    for await (const chunk of request.body) {
      length += chunk.length;
      if (length > limit) throw new HttpProblem(413, `the body is larger than ${limit} bytes`);
      chunks.push(chunk);
    }
  } catch (error) {
    throw error instanceof HttpProblem ? error : new HttpProblem(400, "the body is incomplete");
  }
  return chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks, length);
}

/** Whether a body is empty or JSON white space only. */
export function isBlank(body: string): boolean {
  return /^[\t\n\r ]*$/.test(body);
}
