/** What everything is measured against: a bare Hono handler with a constant answer behind the program's mTLS front. */
import { Hono } from "hono";
import { startFront } from "../../src/tls/front.ts";

const [port, ca, cert, key] = Deno.args as [string, string, string, string];
const app = new Hono();
const ANSWER = JSON.stringify({
  keys: [{ key_ID: "00000000-0000-0000-0000-000000000000", key: "x".repeat(44) }],
});
app.get("/constant", (c) => c.body(ANSWER, 200, { "content-type": "application/json" }));
await startFront({
  name: "baseline",
  listen: { hostname: "127.0.0.1", port: Number(port) },
  clientCa: Deno.readTextFileSync(ca),
  serverCert: Deno.readTextFileSync(cert),
  serverKey: Deno.readTextFileSync(key),
  handler: (request) => app.fetch(request),
});
console.log("ready");
