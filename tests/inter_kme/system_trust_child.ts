/**
 * Run by system_trust_test.ts in a process of its own: a system's trust store is read once a process. Prints what became
 * of a message to a peer, directly and through an `https:` proxy, whose certificates the system trusts or not.
 */
import { startProxy } from "./test_forward_proxy.ts";
import { certificates, openChannel, TestPeer } from "./test_peer.ts";

const [directory, trusted] = Deno.args;
const store = `${directory}/store.pem`;
await Deno.writeTextFile(store, trusted === "ours" ? certificates.ca : certificates.otherCa);
Deno.env.set("SSL_CERT_FILE", store);
Deno.env.delete("SSL_CERT_DIR");

await using peer = await TestPeer.start();
await using proxy = await startProxy(undefined, false, certificates.server);
using direct = openChannel({ port: peer.port, serverCa: null });
using proxied = openChannel({
  port: peer.port,
  serverCa: null,
  env: { HTTPS_PROXY: `https://localhost:${proxy.port}` },
});
const outcomes = [await direct.post("/", "{}"), await proxied.post("/", "{}"), await proxied.post("/", "{}")];
console.log(JSON.stringify({ kinds: outcomes.map((outcome) => outcome.kind), tunnels: proxy.seen.length }));
