/**
 * Bodies that are not read: a request is answered before its body is there, and little more of it is taken. The connection is not
 * closed at once, because the reset would make many clients miss the answer.
 */

/** Bytes that a client may still send after its last answer is decided. */
export const MAX_DISCARDED = 2 ** 20;

/** Milliseconds for a client to stop sending, and to read, after its last answer. */
export const LINGER_MS = 2_000;

/** Whether a request has a body: with any method, since the HTTP server below would read it to its end. */
export function hasBody({ headers }: Request): boolean {
  const length = headers.get("content-length");
  return length === null ? headers.has("transfer-encoding") : Number(length) !== 0;
}

/** The last answer of its connection. */
export function lastAnswer(response: Response): Response {
  const headers = new Headers(response.headers);
  headers.set("connection", "close");
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}
