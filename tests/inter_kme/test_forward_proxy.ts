/** A forward proxy for tests. */
import { once } from "node:events";
import http from "node:http";
import https from "node:https";
import net, { type AddressInfo, type Socket } from "node:net";
import type { Pem } from "./test_peer.ts";

/** A tiny forward proxy that knows CONNECT only. */
export async function startProxy(refuse?: number, silent = false, tls?: Pem) {
  const seen: { authority: string; authorization: string | undefined }[] = [];
  const sockets = new Set<Socket>();
  const arrived = Promise.withResolvers<void>();
  const server = tls ? https.createServer(tls) : http.createServer();
  server.on("tlsClientError", () => {});
  server.on("connection", (socket: Socket) => sockets.add(socket));
  server.on("connect", (request: http.IncomingMessage, socket: Socket, head: Uint8Array) => {
    seen.push({ authority: request.url!, authorization: request.headers["proxy-authorization"] });
    arrived.resolve();
    socket.on("error", () => {});
    if (silent) return;
    if (refuse !== undefined) {
      return socket.end(`HTTP/1.1 ${refuse} No\r\nContent-Length: 2\r\n\r\nOK`);
    }
    const { hostname, port } = new URL(`http://${request.url}`);
    const onward = net.connect(Number(port), hostname === "peer.example" ? "127.0.0.1" : hostname);
    sockets.add(onward);
    onward.on("error", () => socket.destroy());
    onward.on("connect", () => {
      socket.write("HTTP/1.1 200 Connection established\r\n\r\n");
      onward.write(head);
      onward.pipe(socket).pipe(onward);
    });
    socket.on("close", () => onward.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return {
    port,
    seen,
    arrived: arrived.promise,
    async [Symbol.asyncDispose]() {
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}
