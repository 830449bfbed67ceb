/** Checks the files of certificate revocation lists. */
import { serverVerifier } from "../tls/server_trust.ts";
import type { Config } from "../config/config.ts";
import { httpsInterfacesOf } from "../config/https_interfaces.ts";
import { isNeighbour } from "../domain/network.ts";
import { errorMessage } from "../domain/text.ts";
import type { Certificate } from "../x509/certificate.ts";
import { issuersOf } from "../x509/chain.ts";
import { checkCrls } from "../x509/crl.ts";
import { type CheckLine, ok, warn } from "./check_line.ts";

/**
 * A line for each file, or for each of its problems.
 *
 * @param kept CRLs in DER that were in force before.
 */
export async function checkCrlFiles(
  { thisKme, otherKmes }: Config,
  kept: readonly Uint8Array[],
  now: number,
): Promise<CheckLine[]> {
  const lines = [
    ...httpsInterfacesOf(thisKme).map(({ member, material: { clientCrl, clientCa } }) =>
      check(`${member}.client_crl_path`, clientCrl, () => issuersOf(clientCa), kept, now)
    ),
    ...otherKmes.flatMap((kme, index) => {
      if (!isNeighbour(kme)) return [];
      const ofServer = (member: string, { serverCrl, serverCa }: { serverCrl?: string; serverCa?: string }) =>
        check(
          `other_kmes[${index}].${member}`,
          serverCrl,
          () => serverVerifier(serverCa).authorities,
          kept,
          now,
        );
      const { device } = kme;
      return [
        ofServer("inter_kme_crl_path", kme),
        ...device === undefined ? [] : [ofServer("key_source.crl_path", device)],
      ];
    }),
  ];
  return (await Promise.all(lines)).flat();
}

async function check(
  member: string,
  path: string | undefined,
  authorities: () => readonly Certificate[],
  kept: readonly Uint8Array[],
  now: number,
): Promise<CheckLine[]> {
  if (path === undefined) return [];
  let bytes;
  try {
    bytes = await Deno.readFile(path);
  } catch (error) {
    return [warn(member, `the file cannot be read: ${errorMessage(error)}`, "put the CRL of the CA there")];
  }
  const { problems, revoked, nextUpdate } = checkCrls(bytes, authorities(), kept, now);
  if (problems.length > 0) {
    return problems.map(({ message }) => warn(member, message, "put a current CRL of the CA there"));
  }
  const until = nextUpdate === undefined
    ? ""
    : `, current until ${new Date(nextUpdate).toISOString().slice(0, 10)}`;
  return [ok(member, `${revoked} certificate${revoked === 1 ? " is" : "s are"} revoked${until}`)];
}
