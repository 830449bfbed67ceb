/** What SKIP clients send, checked member by member. */
import { type KeyIdBytes, parseKeyId } from "../domain/block.ts";
import type { SaeId } from "../domain/ids.ts";
import type { Sae } from "../domain/network.ts";
import { InvalidRequest } from "../domain/refusals.ts";
import { checkParameters } from "../http/sae_requests.ts";

/** Bits of `/entropy`. */
const Entropy = { default: 256, max: 65_536 } as const;

/** Which SAEs there are. */
export interface SaeList {
  sae(id: SaeId): Sae | undefined;
  isLocal(sae: Sae): boolean;
}

/**
 * The parameters of `/key`. A request that is not understood takes no key from the stock.
 *
 * @returns size in bits; absent: the default. Delivery checks its range.
 * @throws InvalidRequest
 */
export function parseNewKey(
  parameters: URLSearchParams,
  saes: SaeList,
): { remoteSystem: SaeId; size?: number } {
  checkParameters(parameters, ["remoteSystemID", "size"]);
  const remoteSystem = parseRemoteSystem(parameters, saes);
  const size = bitsOf(parameters, "size");
  return { remoteSystem, size };
}

/**
 * The SAE that `remoteSystemID` names.
 *
 * @throws InvalidRequest if it is missing, unknown, or an SAE of this KME.
 */
export function parseRemoteSystem(parameters: URLSearchParams, saes: SaeList): SaeId {
  const id = only(parameters, "remoteSystemID");
  if (id === undefined) throw new InvalidRequest("remoteSystemID: is missing");
  const sae = saes.sae(id);
  if (sae === undefined) throw new InvalidRequest(`remoteSystemID: SAE ${JSON.stringify(id)} is unknown`);
  if (saes.isLocal(sae)) {
    throw new InvalidRequest(
      `remoteSystemID: SAE ${JSON.stringify(id)} is an SAE of this KME, not of another one`,
    );
  }
  return id;
}

/**
 * A key_ID of 128 bits, with or without the hyphens of a UUID.
 *
 * @throws InvalidRequest
 */
export function parseKeyIdOfPath(text: string): KeyIdBytes {
  const id = /^[0-9a-f]{32}$/i.test(text) ? Uint8Array.fromHex(text) : parseKeyId(text);
  if (id === undefined) throw new InvalidRequest("keyId: is not 32 hexadecimal digits");
  return id;
}

/**
 * The parameter of `/entropy`.
 *
 * @returns bits.
 * @throws InvalidRequest
 */
export function parseMinEntropy(parameters: URLSearchParams): number {
  const bits = bitsOf(parameters, "minentropy") ?? Entropy.default;
  if (bits < 1 || bits > Entropy.max) {
    throw new InvalidRequest(`minentropy: 1 to ${Entropy.max} bits can be delivered`);
  }
  return bits;
}

function bitsOf(parameters: URLSearchParams, name: string): number | undefined {
  const text = only(parameters, name);
  if (text === undefined) return undefined;
  if (!/^\d{1,9}$/.test(text)) throw new InvalidRequest(`${name}: is not a number of bits`);
  return Number(text);
}

/** @throws InvalidRequest if it is given more than once. */
function only(parameters: URLSearchParams, name: string): string | undefined {
  const values = parameters.getAll(name);
  if (values.length > 1) throw new InvalidRequest(`${name}: is given more than once`);
  return values[0];
}
