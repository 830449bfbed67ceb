/** Which end of a link requests new keys from its QKD device, and whether the two ends agree about it. */
import type { KmeId } from "./ids.ts";

/** As one end has it: `this` end requests keys, or the `other` one, or `both`, each from a stock of its own. */
export type DeviceDirection = "this" | "other" | "both";

/** What the other end of a link says; `none`: it has no device for the link. */
export type ToldDirection = DeviceDirection | "none";

/** Two ends that do not agree. */
export interface DirectionConflict {
  /** Whether no keys come because of it. */
  readonly stopsKeys: boolean;
  /** One line. */
  readonly message: string;
  readonly fix: string;
}

/** @param kme the other end. */
export function directionConflict(
  own: DeviceDirection,
  theirs: ToldDirection,
  kme: KmeId,
): DirectionConflict | undefined {
  if (theirs === "none") {
    return {
      stopsKeys: true,
      message: `KME ${kme} has no key_source for the link`,
      fix: `write a key_source in the configuration of KME ${kme} too`,
    };
  }
  const [isRequesting, theyRequest] = [own !== "other", theirs !== "other"];
  if (!isRequesting && !theyRequest) {
    return {
      stopsKeys: true,
      message:
        `neither end requests keys from its device: here direction is "other" (written, or the default), and at KME ${kme} too`,
      fix: 'write direction: "this" at one end',
    };
  }
  const agree = own === "both" || theirs === "both" ? own === theirs : isRequesting !== theyRequest;
  if (agree) return undefined;
  const ends = isRequesting && theyRequest ? "both ends request" : "only one end requests";
  return {
    stopsKeys: false,
    message: `${ends} keys from the devices: direction is "${own}" here and "${theirs}" at KME ${kme}`,
    fix:
      'write direction: "both" at both ends if the devices have separate stocks, otherwise "this" at one and "other" at the other end',
  };
}
