/** A second process of KME 1 on the database of the first. */
import { freePorts } from "../harness/free_port.ts";
import { type KmeProcess, startKme } from "../harness/kme_process.ts";
import type { TestNetwork } from "../harness/test_network.ts";

export interface Replica {
  readonly saesPort: number;
  start(): Promise<KmeProcess>;
}

/** @param peerPort port at which this process calls KME 2; that of the first process by default. */
export async function makeReplica(network: TestNetwork, peerPort?: number): Promise<Replica> {
  const [saesPort, kmesPort] = freePorts(2) as [number, number];
  const config = structuredClone(network.kme("1").config);
  config.this_kme.saes_https_interface.listen_address = `127.0.0.1:${saesPort}`;
  config.this_kme.kmes_https_interface.listen_address = `127.0.0.1:${kmesPort}`;
  if (peerPort !== undefined) config.other_kmes[0]!.inter_kme_bind_address = `127.0.0.1:${peerPort}`;
  const path = `${network.kme("1").directory}/replica.json5`;
  await Deno.writeTextFile(path, JSON.stringify(config));
  return { saesPort, start: () => startKme(path) };
}
