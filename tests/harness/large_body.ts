/** A client that announces a large body and goes on sending it, whatever the server answers. */
import { connect, type ConnectionOptions } from "node:tls";

const CHUNK = new Uint8Array(2 ** 18);

/** Posts so many bytes to Get key for an SAE; resolves with all that was answered, when the connection is closed. */
export function postLargeBody(options: ConnectionOptions, slave: number, bytes: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ host: "127.0.0.1", ...options });
    let text = "";
    let sent = 0;
    const pump = () => {
      while (sent < bytes && !socket.destroyed) {
        sent += CHUNK.length;
        if (!socket.write(CHUNK)) return void socket.once("drain", pump);
      }
    };
    socket.setEncoding("utf8").on("data", (data) => text += data);
    socket.on("error", () => {});
    socket.on("close", () => resolve(text));
    socket.on("secureConnect", () => {
      socket.write(
        `POST /api/v1/keys/${slave}/enc_keys HTTP/1.1\r\nHost: kme\r\nContent-Type: application/json\r\n` +
          `Content-Length: ${bytes}\r\n\r\n`,
      );
      pump();
    });
  });
}
