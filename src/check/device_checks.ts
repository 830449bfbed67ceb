/** Checks that the QKD devices of links answer this KME, as the SAE that it should be; no key is requested. */
import type { Config, NeighbourKme } from "../config/config.ts";
import { isNeighbour } from "../domain/network.ts";
import { errorMessage } from "../domain/text.ts";
import {
  type DeviceClient,
  deviceClient,
  DeviceRefusal,
  type DeviceStatus,
  type WrongSae,
  wrongSaes,
} from "../ingest/device_client.ts";
import { type CheckLine, environmentError, ok, warn } from "./check_line.ts";

const REMEDIES: Readonly<Record<WrongSae["member"], string>> = {
  local_SAE_id: "use the certificate of that SAE, or correct local_SAE_id",
  remote_SAE_id: "correct remote_SAE_id",
};

export async function checkDevices(config: Config): Promise<CheckLine[]> {
  const lines = await Promise.all(
    config.otherKmes.map((kme, index) => isNeighbour(kme) ? checkDevice(config, kme, index) : []),
  );
  return lines.flat();
}

async function checkDevice({ thisKme }: Config, kme: NeighbourKme, index: number): Promise<CheckLine[]> {
  const { device } = kme;
  if (device === undefined) return [];
  const what = `other_kmes[${index}].key_source`;
  let client: DeviceClient | undefined;
  try {
    client = deviceClient(device, kme, thisKme);
    return judge(what, kme, client.name, await client.status());
  } catch (error) {
    return [environmentError(what, `the QKD device gives no status: ${errorMessage(error)}`, remedy(error))];
  } finally {
    client?.close();
  }
}

function judge(what: string, { device }: NeighbourKme, name: string, status: DeviceStatus): CheckLine[] {
  const { keySize, keysPerRequest } = device!;
  const { min_key_size: min = 0, max_key_size: max = Infinity, max_key_per_request: perRequest } = status;
  const lines = wrongSaes(device!, status).map(({ member, message }) =>
    environmentError(what, message, REMEDIES[member])
  );
  if (keySize < min || keySize > max) {
    lines.push(environmentError(
      what,
      `the QKD device ${name} gives keys of ${min} to ${max} bits, not of ${keySize}`,
      "correct key_size, at both ends",
    ));
  }
  if (lines.length > 0) return lines;
  lines.push(
    ok(what, `the QKD device ${name} answers and has ${status.stored_key_count} keys for this link`),
  );
  if (perRequest !== undefined && perRequest < keysPerRequest) {
    lines.push(
      warn(
        what,
        `the QKD device ${name} gives at most ${perRequest} keys at once`,
        `set keys_per_request to ${perRequest}`,
      ),
    );
  }
  return lines;
}

function remedy(error: unknown): string {
  const message = errorMessage(error);
  if (error instanceof DeviceRefusal) {
    return [401, 403].includes(error.status)
      ? "let the device know the certificate of https_client_authentication_certificate as that of local_SAE_id"
      : "check local_SAE_id, remote_SAE_id and url, and the log of the device";
  }
  if (/refused|no connection|host name|route/i.test(message)) return "start the device, or correct url";
  if (/trust|issue|certificate/i.test(message)) {
    return "put the CA of the device's certificate into ca_cert_path";
  }
  return "check url, and that it is a server of ETSI GS QKD 014";
}
