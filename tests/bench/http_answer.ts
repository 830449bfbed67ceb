/** Answers of HTTP/1.1 and what is looked at in them. */
import { Buffer } from "node:buffer";

export interface HttpAnswer {
  readonly status: number;
  readonly body: Buffer;
  /** Whether the server closes the connection after it. */
  readonly closes: boolean;
  /** Bytes of it. */
  readonly length: number;
}

/**
 * The answer at the beginning of what was received; `undefined` while it is not complete. An answer whose end is only told by
 * the end of the connection is complete when `isEnded`.
 */
export function parseAnswer(bytes: Buffer, isEnded = false): HttpAnswer | undefined {
  const headEnd = bytes.indexOf("\r\n\r\n");
  if (headEnd < 0) return undefined;
  const head = bytes.toString("latin1", 0, headEnd).toLowerCase();
  const status = Number(head.slice(9, 12));
  const start = headEnd + 4;
  if (status >= 100 && status < 200) {
    const rest = parseAnswer(bytes.subarray(start), isEnded);
    return rest && { ...rest, length: start + rest.length };
  }
  const closes = head.startsWith("http/1.0") || head.includes("\r\nconnection: close");
  const at = head.indexOf("\r\ncontent-length:");
  if (at >= 0) {
    const end = start + parseInt(head.slice(at + 17));
    return bytes.length < end ? undefined : { status, body: bytes.subarray(start, end), closes, length: end };
  }
  if (/\r\ntransfer-encoding:\s*chunked/.test(head)) {
    const chunked = readChunks(bytes, start);
    return chunked && { status, closes, ...chunked };
  }
  if (status === 204 || status === 304) return { status, body: Buffer.alloc(0), closes, length: start };
  return isEnded ? { status, body: bytes.subarray(start), closes: true, length: bytes.length } : undefined;
}

function readChunks(bytes: Buffer, start: number): { body: Buffer; length: number } | undefined {
  const parts: Buffer[] = [];
  let at = start;
  while (true) {
    const lineEnd = bytes.indexOf("\r\n", at);
    if (lineEnd < 0) return undefined;
    const size = parseInt(bytes.toString("latin1", at, lineEnd), 16);
    at = lineEnd + 2;
    if (size === 0) break;
    if (!(size > 0)) throw new Error("a chunk without a size");
    if (bytes.length < at + size + 2) return undefined;
    parts.push(bytes.subarray(at, at + size));
    at += size + 2;
  }
  // Trailers, up to an empty line.
  while (true) {
    const lineEnd = bytes.indexOf("\r\n", at);
    if (lineEnd < 0) return undefined;
    const isEmpty = lineEnd === at;
    at = lineEnd + 2;
    if (isEmpty) return { body: Buffer.concat(parts), length: at };
  }
}

export function httpRequest(host: string, path: string, body?: string): Buffer {
  const head = body === undefined
    ? `GET ${path} HTTP/1.1\r\nHost: ${host}\r\n\r\n`
    : `POST ${path} HTTP/1.1\r\nHost: ${host}\r\nContent-Type: application/json\r\nContent-Length: ${
      Buffer.byteLength(body)
    }\r\n\r\n${body}`;
  return Buffer.from(head);
}

const KEY_ID = Buffer.from('"key_ID"');
const QUOTE = 0x22;

/** The key_IDs in one or more Key containers, without parsing the JSON. */
export function keyIdsIn(bytes: Buffer): string[] {
  const ids: string[] = [];
  for (let at = bytes.indexOf(KEY_ID); at >= 0; at = bytes.indexOf(KEY_ID, at)) {
    const begin = bytes.indexOf(QUOTE, at + KEY_ID.length) + 1;
    const end = bytes.indexOf(QUOTE, begin);
    if (begin === 0 || end < 0) break;
    ids.push(bytes.toString("latin1", begin, end));
    at = end + 1;
  }
  return ids;
}

/** Whether two Key containers hold the same keys, in whatever order and notation. */
export function haveSameKeys(a: Buffer, b: Buffer): boolean {
  if (a.equals(b)) return true;
  const [one, other] = [a, b].map((body) =>
    new Map((JSON.parse(body.toString()).keys as { key_ID: string; key: string }[])
      .map(({ key_ID, key }) => [key_ID, key]))
  ) as [Map<string, string>, Map<string, string>];
  return one.size === other.size && [...one].every(([id, key]) => other.get(id) === key);
}
