/** Parses the URL of a QKD device. */
import type { HostPort } from "../domain/address.ts";
import type { Parsed } from "../domain/parsed.ts";

/** Where a device serves its SAE interface. */
export interface DeviceUrl {
  readonly address: HostPort;
  /** What comes before `/api/v1/keys` in its paths; usually empty. */
  readonly path: string;
}

const RIGHT = 'write its URL, as in "https://qkd1.example:8443"';

/** `https` only. The standard's `/api/v1/keys` (ETSI GS QKD 014 V1.1.1, clause 5) may be at its end. */
export function parseDeviceUrl(text: string): Parsed<DeviceUrl> {
  if (!URL.canParse(text)) return { problem: `it is not a URL; ${RIGHT}` };
  const { protocol, hostname, port, pathname, search, hash, username, password } = new URL(text);
  if (protocol !== "https:") return { problem: `it does not begin with https://; ${RIGHT}` };
  if (username !== "" || password !== "") {
    return {
      problem: `a user or password is not used, the device knows this KME by its certificate; ${RIGHT}`,
    };
  }
  if (search !== "" || hash !== "") return { problem: `it has a query or fragment; ${RIGHT}` };
  return {
    value: {
      address: { hostname: hostname.replace(/^\[|\]$/g, ""), port: port === "" ? 443 : Number(port) },
      path: pathname.replace(/\/+$/, "").replace(/\/api\/v1\/keys$/, ""),
    },
  };
}
