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
  const length = request.headers.get("content-length");
  if (Number(length ?? 0) > limit) throw tooLarge(limit);
  // The server takes as many bytes as announced. To read them at once takes much less than a stream of them.
  if (length !== null && !request.headers.has("transfer-encoding")) return await wholeBody(request, limit);
  if (request.body === null) return new Uint8Array();
  const chunks: Uint8Array[] = [];
  let received = 0;
  try {
    for await (const chunk of request.body) {
      received += chunk.length;
      if (received > limit) throw tooLarge(limit);
      chunks.push(chunk);
    }
  } catch (error) {
    throw error instanceof HttpProblem ? error : incomplete();
  }
  return chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks, received);
}

async function wholeBody(request: Request, limit: number): Promise<Uint8Array> {
  const body = await request.bytes().catch(() => {
    throw incomplete();
  });
  if (body.length > limit) throw tooLarge(limit);
  return body;
}

function tooLarge(limit: number): HttpProblem {
  return new HttpProblem(413, `the body is larger than ${limit} bytes`);
}

function incomplete(): HttpProblem {
  return new HttpProblem(400, "the body is incomplete");
}

/** Whether a body is empty or JSON white space only. */
export function isBlank(body: string): boolean {
  return /^[\t\n\r ]*$/.test(body);
}
