/** A second process of a KME on the database of the first. */
import { freePorts } from "../harness/free_port.ts";
import { type KmeProcess, startKme } from "../harness/kme_process.ts";
import type { TestNetwork } from "../harness/test_network.ts";

export interface Replica {
  readonly saesPort: number;
  readonly kmesPort: number;
  /** 0 without a console. */
  readonly consolePort: number;
  start(): Promise<KmeProcess>;
}

/** @param peerPort port at which this process calls the other KME; that of the first process by default. */
export async function makeReplica(
  network: TestNetwork,
  peerPort?: number,
  kme: "1" | "2" = "1",
): Promise<Replica> {
  const { config: first, directory, consolePort: firstConsole } = network.kme(kme);
  const [saesPort, kmesPort, freeConsole] = freePorts(3) as [number, number, number];
  const consolePort = firstConsole === 0 ? 0 : freeConsole;
  const config = structuredClone(first);
  if (consolePort !== 0) config.this_kme.debugging_http_interface = `127.0.0.1:${consolePort}`;
  config.this_kme.saes_https_interface.listen_address = `127.0.0.1:${saesPort}`;
  config.this_kme.kmes_https_interface.listen_address = `127.0.0.1:${kmesPort}`;
  if (peerPort !== undefined) config.other_kmes[0]!.inter_kme_bind_address = `127.0.0.1:${peerPort}`;
  const path = `${directory}/replica.json5`;
  await Deno.writeTextFile(path, JSON.stringify(config));
  return { saesPort, kmesPort, consolePort, start: () => startKme(path) };
}
