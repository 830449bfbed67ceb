/** What a file with mistakes says about access, so that access can be taken away while something else is wrong. */
import { limitsOf } from "./assemble.ts";
import type { SaeLimits } from "../domain/network.ts";
import type { ConfiguredId, KmeId } from "../domain/ids.ts";
import type { CertificateSelector } from "../x509/certificate_selector.ts";
import type { Findings } from "./findings.ts";
import type { Identities } from "./identities.ts";
import type { PartialConfig } from "./partial_config.ts";
import type { LoadedInterface, ReferencedFiles } from "./referenced_files.ts";

export interface SaeAccess {
  /** `undefined` where it has a mistake, as for the other members. */
  readonly id?: ConfiguredId;
  readonly kmeId?: KmeId;
  readonly certificates?: readonly CertificateSelector[];
  /** Without those that have a mistake. */
  readonly limits?: SaeLimits;
}

export interface KmeAccess {
  /** `undefined` where it has a mistake. */
  readonly id?: KmeId;
  /** `undefined` where they have a mistake; `"any"` where there are none. */
  readonly certificates?: readonly CertificateSelector[] | "any";
  /** The KME has no direct link. */
  readonly isRemote: boolean;
  /** No mistake is in the description of this KME. */
  readonly isCorrect: boolean;
}

export interface CaAccess {
  /** PEM; `undefined` where the file has a mistake. */
  readonly pem?: string;
  /** No mistake is in this member, nor in the certificates of those who are verified with it. */
  readonly isCorrect: boolean;
}

export interface Access {
  /** The id of this KME; `undefined` where it has a mistake. */
  readonly thisKme?: KmeId;
  readonly saesCa: CaAccess;
  readonly kmesCa: CaAccess;
  readonly skipCa: CaAccess;
  /** `undefined` where `saes` is not a list. */
  readonly saes?: readonly SaeAccess[];
  /** No mistake is in `saes`. */
  readonly saesAreCorrect: boolean;
  /** `undefined` where `other_kmes` is not a list. */
  readonly otherKmes?: readonly KmeAccess[];
}

export function readAccess(
  { content, given }: PartialConfig,
  files: ReferencedFiles,
  identities: Identities,
  findings: Findings,
): Access {
  const isCorrect = (...member: (string | number)[]) => !findings.hasMistake(member);
  const ca = (
    name: "saes_https_interface" | "kmes_https_interface" | "skip_https_interface",
    loaded: LoadedInterface,
    users: string,
  ) => ({
    pem: loaded.clientCa,
    isCorrect: isCorrect("this_kme", name, "ca_client_cert_path") && isCorrect(users),
  });
  return {
    thisKme: content.this_kme?.id?.text,
    saesCa: ca("saes_https_interface", files.saesInterface, "saes"),
    kmesCa: ca("kmes_https_interface", files.kmesInterface, "other_kmes"),
    skipCa: ca("skip_https_interface", files.skipInterface, "saes"),
    saes: content.saes?.map((sae, index) => ({
      id: isCorrect("saes", index, "id") ? sae?.id : undefined,
      kmeId: isCorrect("saes", index, "kme_id") ? sae?.kme_id?.text : undefined,
      certificates: identities.saes[index],
      ...limitsOf(sae ?? {}),
    })),
    saesAreCorrect: content.saes !== undefined && isCorrect("saes"),
    otherKmes: content.other_kmes?.map((kme, index) => ({
      id: isCorrect("other_kmes", index, "id") ? kme?.id?.text : undefined,
      certificates: identities.otherKmes[index],
      isRemote: given(["other_kmes", index, "reached_through"]),
      isCorrect: isCorrect("other_kmes", index),
    })),
  };
}
