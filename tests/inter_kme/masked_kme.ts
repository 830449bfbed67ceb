/** A KME as older versions of this program would be: a server in front of it changes what it says about itself. */
import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import https from "node:https";
import type { AddressInfo } from "node:net";
import { PeerPath } from "../../src/inter_kme/wire.ts";
import type { TestId, TestNetwork } from "../harness/test_network.ts";

export interface Mask extends AsyncDisposable {
  /** Paths that were asked for. */
  readonly paths: ReadonlySet<string>;
}

/**
 * Puts the mask where `from` calls `to`; before `from` is started, whose configuration is changed.
 *
 * @param protocol version that `to` says it speaks; paths that this version does not have are answered with 404.
 */
export async function mask(network: TestNetwork, from: TestId, to: TestId, protocol: number): Promise<Mask> {
  const caller = network.kme(from).interKmeClient;
  const server = await network.interKmeCa.server({ commonName: `KME ${to}` });
  const paths = new Set<string>();
  const agent = new https.Agent({ keepAlive: true });
  const listener = https.createServer({
    cert: server.cert,
    key: server.key,
    ca: network.interKmeCa.ca,
    requestCert: true,
    rejectUnauthorized: true,
  }, async (request, response) => {
    const path = request.url ?? "";
    paths.add(path);
    const body = await textOf(request);
    if (protocol < 2 && path === PeerPath.stock) return void response.writeHead(404).end("Not found");
    const onward = https.request({
      agent,
      host: "127.0.0.1",
      port: network.kme(to).kmesPort,
      path,
      method: request.method,
      headers: { "content-type": "application/json" },
      cert: caller.cert,
      key: caller.key,
      ca: network.interKmeCa.ca,
    }, async (answer) => {
      const text = await textOf(answer);
      const isHello = path === PeerPath.hello && answer.statusCode === 200;
      response.writeHead(answer.statusCode!, { "content-type": "application/json" });
      response.end(isHello ? JSON.stringify({ ...JSON.parse(text), protocol }) : text);
    });
    onward.on("error", () => response.destroy());
    onward.end(body);
  });
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  const { port } = listener.address() as AddressInfo;
  await network.redirect(from, to, port);
  return {
    paths,
    async [Symbol.asyncDispose]() {
      agent.destroy();
      listener.closeAllConnections();
      const closed = once(listener, "close");
      listener.close();
      await closed;
    },
  };
}

async function textOf(message: IncomingMessage): Promise<string> {
  let text = "";
  for await (const part of message.setEncoding("utf8")) text += part;
  return text;
}
