/** Pairs of KMEs whose links get their keys from QKD devices: KMEs of this program, or servers of a test. */
import { type KmeSpec, makeTestNetwork, type NetworkSpec, type TestNetwork } from "./test_network.ts";
import type { IssuedCertificate } from "./test_certificates.ts";

/** Where one end of a link finds its device. */
export interface DeviceAddress {
  readonly port: number;
  /** PEM. */
  readonly ca: string;
  /** As which the KME calls it. */
  readonly client: Pick<IssuedCertificate, "cert" | "key">;
  readonly localSae: string | number;
  readonly remoteSae: string | number;
}

export interface DeviceNetworkOptions {
  /** The devices of KME 1 and of KME 2. */
  readonly devices: readonly [DeviceAddress, DeviceAddress];
  /** More members of both `key_source`, or others. */
  readonly source?: Record<string, unknown>;
  /** More members of one `key_source`, by KME. */
  readonly sourceOf?: Readonly<Record<string, Record<string, unknown>>>;
  /** More members of both `this_kme`. */
  readonly options?: Record<string, unknown>;
  readonly database?: string;
  /** A `db_uri` for each. */
  readonly databases?: readonly [string, string];
  /** Whether the link has key directories too. */
  readonly directories?: boolean;
}

/** KME 1 with SAEs 1 and 11, KME 2 with SAEs 2 and 22, both with consoles. None is started. */
export async function makeDeviceNetwork(options: DeviceNetworkOptions): Promise<TestNetwork> {
  const kme = (id: number): KmeSpec => ({
    id,
    saes: [id, 11 * id],
    console: true,
    database: options.databases?.[id - 1] ?? options.database ?? "sqlite",
    options: { inter_kme_timeout_seconds: 4, ...options.options },
  });
  const network = await makeTestNetwork({ kmes: [kme(1), kme(2)] });
  for (const [i, device] of options.devices.entries()) {
    const id = i + 1;
    const { directory } = network.kme(id);
    await Deno.writeTextFile(`${directory}/device-ca.pem`, device.ca);
    await Deno.writeTextFile(`${directory}/device.pem`, device.client.cert + device.client.key, {
      mode: 0o600,
    });
    await network.writeConfig(id, (config) => {
      const [other] = config.other_kmes;
      if (!options.directories) delete other!.key_directory_to_watch;
      other!.key_source = {
        kind: "etsi014",
        url: `https://127.0.0.1:${device.port}`,
        ca_cert_path: `${directory}/device-ca.pem`,
        https_client_authentication_certificate: `${directory}/device.pem`,
        local_SAE_id: device.localSae,
        remote_SAE_id: device.remoteSae,
        poll_seconds: 1,
        target_stock: 200,
        low_stock: 100,
        ...options.source,
        ...options.sourceOf?.[id],
      };
    });
  }
  return network;
}

/** KME 101 with SAE 201 and KME 102 with SAE 202: devices for {@linkcode makeDeviceNetwork}. */
export const DEVICES: NetworkSpec = {
  kmes: [{ id: 101, saes: [201], database: "sqlite" }, { id: 102, saes: [202], database: "sqlite" }],
};

/** The addresses of a network of {@linkcode DEVICES}. */
export function addressesOf(devices: TestNetwork): [DeviceAddress, DeviceAddress] {
  const address = (kme: number, localSae: number, remoteSae: number): DeviceAddress => {
    const sae = devices.sae(localSae);
    return { port: devices.kme(kme).saesPort, ca: sae.ca, client: sae, localSae, remoteSae };
  };
  return [address(101, 201, 202), address(102, 202, 201)];
}
