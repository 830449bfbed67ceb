/** The mTLS listeners of a KME. */
import type { HttpsInterface, ThisKme } from "./config.ts";

/** Each listener's member in a configuration, with its name in the file. */
export const HTTPS_INTERFACES = {
  saesInterface: "saes_https_interface",
  kmesInterface: "kmes_https_interface",
  skipInterface: "skip_https_interface",
} as const;

export type HttpsInterfaceName = keyof typeof HTTPS_INTERFACES;

export const HTTPS_INTERFACE_NAMES = Object.keys(HTTPS_INTERFACES) as HttpsInterfaceName[];

/** The listeners that are configured, with their members in the file, like `this_kme.saes_https_interface`. */
export function httpsInterfacesOf(
  thisKme: Pick<ThisKme, HttpsInterfaceName>,
): { name: HttpsInterfaceName; member: string; material: HttpsInterface }[] {
  return HTTPS_INTERFACE_NAMES.flatMap((name) => {
    const material = thisKme[name];
    return material === undefined ? [] : [{ name, member: `this_kme.${HTTPS_INTERFACES[name]}`, material }];
  });
}
