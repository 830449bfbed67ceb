/** Two KMEs whose link gets its keys from a pair of devices in the test's process, and what the tests see of them. */
import assert from "node:assert/strict";
import { type DeviceNetworkOptions, makeDeviceNetwork } from "../harness/device_network.ts";
import { eventually } from "../harness/eventually.ts";
import type { KmeProcess } from "../harness/kme_process.ts";
import { type Ledger, ledgerOf } from "../harness/ledger_queries.ts";
import {
  type DeviceAnswer,
  type DeviceCertificates,
  type DeviceRequest,
  type Misbehaviour,
  startTestDevices,
  type TestDevices,
} from "../harness/test_device.ts";
import type { TestNetwork } from "../harness/test_network.ts";
import { scrape } from "../metrics/scrape.ts";
import { stockOf } from "../sae_api/api_fixture.ts";

export const TIMEOUT = { timeout: 60_000, interval: 100 };

export interface Site extends AsyncDisposable {
  readonly devices: TestDevices;
  readonly network: TestNetwork;
  /** Of KME 1 and KME 2; a test that starts one again puts it here. */
  readonly processes: KmeProcess[];
  /** Waits until so many blocks are in stock at both ends. */
  untilStocked(blocks: number): Promise<void>;
  /** Waits until both ends have the same number of blocks in stock, at least so many, and none is unconfirmed. */
  untilSettled(blocks: number): Promise<void>;
  /** Lost blocks at a KME, by the reason, without those of which there are none. */
  lost(kme: 1 | 2): Promise<Record<string, number>>;
  // deno-lint-ignore no-explicit-any
  device(kme: 1 | 2): Promise<any>;
  /** Stops both KMEs; both have the same free blocks, and nothing else. */
  close(): Promise<[Ledger, Ledger]>;
}

export interface SiteOptions extends Partial<DeviceNetworkOptions> {
  /** Of the devices, and of the KMEs towards them. */
  readonly certificates?: DeviceCertificates;
  /** Called before the KMEs are started. */
  readonly prepare?: (network: TestNetwork) => Promise<void>;
}

export async function makeSite(
  misbehave?: Misbehaviour,
  { certificates, prepare, ...options }: SiteOptions = {},
): Promise<Site> {
  await using opened = new AsyncDisposableStack();
  const devices = opened.use(await startTestDevices(undefined, certificates));
  if (misbehave !== undefined) devices.misbehave = misbehave;
  const network = opened.use(await makeDeviceNetwork({ devices: devices.addresses, ...options }));
  await prepare?.(network);
  const processes = await Promise.all([network.start(1), network.start(2)]);
  const console = (kme: number, path: string) =>
    fetch(`http://127.0.0.1:${network.kme(kme).consolePort}/${path}`);
  const kept = opened.move();
  const device = async (kme: number) => (await (await console(kme, "status")).json()).links[1].device;
  const stocks = async () =>
    [await stockOf(network.client(1), 2), await stockOf(network.client(2), 1)] as const;
  return {
    device,
    untilSettled: async (blocks) => {
      await eventually(async () => {
        const { unconfirmed } = await device(1);
        const [one, two] = await stocks();
        return unconfirmed === 0 && (await device(2)).unconfirmed === 0 && one === two && one >= blocks;
      }, { what: `at least ${blocks} blocks at both ends`, ...TIMEOUT });
    },
    devices,
    network,
    processes,
    untilStocked: async (blocks) => {
      for (const [sae, slave] of [[1, 2], [2, 1]] as const) {
        await eventually(async () => await stockOf(network.client(sae), slave) === blocks, {
          what: `${blocks} blocks for SAE ${sae}`,
          ...TIMEOUT,
        });
      }
    },
    lost: async (kme) => {
      const samples = scrape(await (await console(kme, "metrics")).text()).of("kme_device_lost_blocks_total");
      return Object.fromEntries(
        Object.entries(samples).filter(([, value]) => value > 0)
          .map(([labels, value]) => [/reason="(\w+)"/.exec(labels)![1]!, value]),
      );
    },
    close: async () => {
      assert.deepEqual(await Promise.all(processes.map((process) => process.stop())), [0, 0]);
      const ledgers = [ledgerOf(network.kme(1)), ledgerOf(network.kme(2))] as [Ledger, Ledger];
      const [one, two] = ledgers.map(({ blocks }) => [...blocks.keys()].sort());
      assert.deepEqual(one, two);
      for (const { blocks } of ledgers) {
        for (const { state } of blocks.values()) assert.equal(state, "free");
      }
      return ledgers;
    },
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}

/** Misbehaves at the first request that it is asked about. */
export function once(is: (request: DeviceRequest) => boolean, how: DeviceAnswer): Misbehaviour {
  let done = false;
  return (request, right) => {
    if (done || !is(request)) return right();
    done = true;
    return how;
  };
}

export const isCall = (device: number, name: string) => (request: { device: number; path: string }) =>
  request.device === device && request.path.endsWith(`/${name}`);
