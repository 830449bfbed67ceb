/** Which certificates a network has: everything except keys, dates and random serials. */
import { callerName, kmesCaName, kmesServerName, saeName, saesCaName, saesServerName } from "./layout.ts";
import { neighboursOf } from "./network_file.ts";
import type { Network } from "./network_file.ts";
import type { Purpose, Subject } from "./issue.ts";

interface PlannedCa {
  readonly kind: "ca";
  readonly name: string;
  readonly subject: Subject;
}

export interface PlannedLeaf {
  readonly kind: "leaf";
  readonly name: string;
  /** Name of the CA that issues it. */
  readonly ca: string;
  readonly subject: Subject;
  readonly purpose: Purpose;
  readonly serial?: Uint8Array;
}

export type PlannedCertificate = PlannedCa | PlannedLeaf;

/** All certificates of a network, each CA before what it issues. */
export function planCertificates(network: Network): PlannedCertificate[] {
  const subject = (commonName: string): Subject => ({ commonName, organization: network.organization });
  return network.kmes.flatMap((kme): PlannedCertificate[] => {
    const id = kme.id.text;
    const saesCa = saesCaName(id);
    const kmesCa = kmesCaName(id);
    return [
      { kind: "ca", name: saesCa, subject: subject(`CA of KME ${id} for its SAEs`) },
      // The CN of a server is its KME's id: RouterOS compares them.
      {
        kind: "leaf",
        name: saesServerName(id),
        ca: saesCa,
        subject: subject(id),
        purpose: { kind: "server", hosts: kme.saesInterface.hosts },
      },
      ...kme.saes.map((sae): PlannedLeaf => ({
        kind: "leaf",
        name: saeName(id, sae.name),
        ca: saesCa,
        subject: subject(`SAE ${sae.id.text}`),
        purpose: { kind: "client" },
        serial: sae.serial,
      })),
      { kind: "ca", name: kmesCa, subject: subject(`CA of KME ${id} for other KMEs`) },
      {
        kind: "leaf",
        name: kmesServerName(id),
        ca: kmesCa,
        subject: subject(id),
        purpose: { kind: "server", hosts: kme.kmesInterface.hosts },
      },
      ...neighboursOf(network, id).map((caller): PlannedLeaf => ({
        kind: "leaf",
        name: callerName(caller, id),
        ca: kmesCa,
        subject: subject(`KME ${caller} calling KME ${id}`),
        purpose: { kind: "client" },
      })),
    ];
  });
}
