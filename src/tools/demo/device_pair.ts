/** Two KMEs that stand in for a pair of QKD devices in the demo, and the configurations of those that use them. */
import { join } from "node:path";
import { makeNetwork } from "../certs/make_network.ts";
import { writeSampleKeys } from "../sample_keys.ts";

/** Ports of one device: for SAEs and for the other device. */
export interface DevicePorts {
  readonly sae: number;
  readonly interKme: number;
}

const DEVICES = [
  { kme: 101, nickname: "Device A", sae: "101", other: "102" },
  { kme: 102, nickname: "Device B", sae: "102", other: "101" },
] as const;

export interface DevicePair {
  /** Configuration files of the two devices. */
  readonly configs: readonly string[];
  /** What `key_source` of KME 1 and of KME 2 is. */
  readonly sources: readonly Record<string, unknown>[];
}

/** Makes certificates, configurations and sample keys of the devices in a directory of their own. */
export async function makeDevicePair(
  directory: string,
  ports: readonly [DevicePorts, DevicePorts],
  blocks: number,
): Promise<DevicePair> {
  await Deno.mkdir(directory);
  const hosts = ["127.0.0.1"];
  const made = await makeNetwork(
    {
      organization: "TEST ONLY",
      kmes: DEVICES.map(({ kme, nickname, sae }, i) => ({
        id: kme,
        nickname,
        saes_interface: { hosts, port: ports[i]!.sae },
        kmes_interface: { hosts, port: ports[i]!.interKme },
        saes: [{ id: Number(sae) }],
      })),
    },
    directory,
    { configs: true },
  );
  const keys = ["kme-101-102", "kme-102-101"].map((name) => join(directory, "raw_keys", name));
  await writeSampleKeys(keys, { blocks });
  return {
    configs: DEVICES.map(({ kme }) => made.kmes.get(String(kme))!.config!),
    sources: DEVICES.map(({ kme, sae, other }, i) => {
      const { saesCa, saes } = made.kmes.get(String(kme))!;
      return {
        kind: "etsi014",
        url: `https://127.0.0.1:${ports[i]!.sae}`,
        ca_cert_path: saesCa.crt,
        https_client_authentication_certificate: saes.get(sae)!.pem,
        local_SAE_id: sae,
        remote_SAE_id: other,
        target_stock: 200,
        poll_seconds: 1,
      };
    }),
  };
}

/** Writes a device into the only link of a configuration that `kme certs` made, in place of its directory. */
export async function useDevice(config: string, source: Record<string, unknown>): Promise<void> {
  const text = await Deno.readTextFile(config);
  const [before, after] = text.split("other_kmes: [") as [string, string];
  const link = after.replace(/^( +)key_directory_to_watch: .*$/m, `$1key_source: ${JSON.stringify(source)},`);
  await Deno.writeTextFile(config, `${before}other_kmes: [${link}`);
}
