/**
 * Answers a refused client with the reason. The runtime's TLS sends no alert for a refused certificate, so the handshake is
 * completed, and the first request is answered here. Bytes of such a client are not passed on.
 */
import type { TLSSocket } from "node:tls";
import { jsonBody } from "./json_body.ts";
import { LINGER_MS, MAX_DISCARDED } from "./unread_body.ts";

/** Maximum bytes of a request's head. */
const MAX_HEAD = 16_384;

/** Milliseconds for the client to send its request. */
const REQUEST_MS = 5_000;

/**
 * Answers the first request with a status and a reason, and closes the connection.
 *
 * @param closed called once, when the connection is closed.
 */
export function answerRefused(
  socket: TLSSocket,
  status: "401 Unauthorized" | "503 Service Unavailable",
  message: string,
  closed: () => void,
): void {
  let timer = setTimeout(() => socket.destroy(), REQUEST_MS);
  let head = "";
  let answered = false;
  let discarded = 0;
  socket.allowHalfOpen = true;
  socket.on("error", () => {});
  socket.once("close", () => {
    clearTimeout(timer);
    closed();
  });
  const answer = () => {
    answered = true;
    clearTimeout(timer);
    timer = setTimeout(() => socket.destroy(), LINGER_MS);
    const body = jsonBody(JSON.stringify({ message }));
    const length = new TextEncoder().encode(body).length;
    socket.end(
      `HTTP/1.1 ${status}\r\ncontent-type: application/json\r\ncache-control: no-store\r\n` +
        `content-length: ${length}\r\nconnection: close\r\n\r\n${head.startsWith("HEAD ") ? "" : body}`,
    );
  };
  socket.on("data", (chunk: Uint8Array) => {
    if (answered) {
      discarded += chunk.length;
      if (discarded > MAX_DISCARDED) socket.destroy();
      return;
    }
    head += new TextDecoder("latin1").decode(chunk.subarray(0, MAX_HEAD));
    if (head.length >= MAX_HEAD || head.includes("\r\n\r\n")) answer();
  });
  socket.on("end", () => answered ? socket.destroySoon() : socket.destroy());
}
