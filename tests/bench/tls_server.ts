/**
 * Two bare `node:tls` servers in one process, for the limits of the platform and of the load generator: one answers every
 * chunk with a constant, the other answers once and closes.
 */
import { createPrivateKey } from "node:crypto";
import tls from "node:tls";

const [ceilingPort, closingPort, ca, cert, key] = Deno.args as [string, string, string, string, string];
const BODY = "x".repeat(126);
const ANSWER =
  `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${BODY.length}\r\n\r\n${BODY}`;
const options = {
  ca: Deno.readTextFileSync(ca),
  cert: Deno.readTextFileSync(cert),
  // In the form that is read fastest for each connection, as the program's front does it.
  key: createPrivateKey(Deno.readTextFileSync(key)).export({ type: "sec1", format: "pem" }).toString(),
  requestCert: true,
  rejectUnauthorized: true,
};

function listen(port: string, onData: (socket: tls.TLSSocket) => void): Promise<void> {
  const server = tls.createServer(options, (socket) => {
    socket.setNoDelay(true);
    socket.on("error", () => {});
    socket.on("data", () => onData(socket));
  });
  return new Promise((resolve) => server.listen(Number(port), "127.0.0.1", resolve));
}

await listen(ceilingPort, (socket) => socket.write(ANSWER));
await listen(closingPort, (socket) => socket.end(ANSWER));
console.log("ready");
