/** Applies a changed configuration to a running KME. */
import type { Access } from "../config/access.ts";
import type { Config } from "../config/config.ts";
import { isNeighbour } from "../domain/network.ts";
import type { Directory } from "../delivery/directory.ts";
import type { KmeId } from "../domain/ids.ts";
import type { PeerChannel } from "../inter_kme/channel.ts";
import type { Front } from "../tls/front.ts";
import { planAccess } from "./access_plan.ts";
import { planReload, same } from "./reload_plan.ts";

/** The parts of a running KME that can change. */
export interface Reloadable {
  readonly saesFront: Pick<Front, "reload">;
  readonly kmesFront: Pick<Front, "reload">;
  /** By the neighbour's id. */
  readonly channels: ReadonlyMap<KmeId, Pick<PeerChannel, "renew">>;
  readonly directory: Pick<Directory, "replace">;
}

export class Reloading {
  readonly #parts: Reloadable;
  #running: Config;

  constructor(running: Config, parts: Reloadable) {
    this.#running = running;
    this.#parts = parts;
  }

  /** What the KME runs with now. */
  get running(): Config {
    return this.#running;
  }

  /**
   * @returns changes that need a restart, a line each.
   * @throws Error with one line when a certificate cannot be used; then only what takes access away is applied.
   */
  reload(changed: Config): readonly string[] {
    const { config, ignored } = planReload(this.#running, changed);
    this.#apply(config);
    return ignored;
  }

  /**
   * Applies what a file with mistakes says about access: all that it takes away, and what its correct parts grant.
   *
   * @returns what changed, a line each.
   * @throws Error with one line when a CA certificate cannot be used; then the other changes are applied.
   */
  reloadAccess(access: Access): readonly string[] {
    const { config, changes } = planAccess(this.#running, access);
    if (changes.length > 0) this.#apply(config);
    return changes;
  }

  #apply(config: Config): void {
    const before = this.#running;
    const { saesFront, kmesFront, channels, directory } = this.#parts;
    // Done first and separately, so that access is revoked even if the rest fails.
    directory.replace(config);
    this.#running = { ...before, otherKmes: withCertificates(before, config), saes: config.saes };
    try {
      saesFront.reload(config.thisKme.saesInterface);
      kmesFront.reload(config.thisKme.kmesInterface);
      renewChannels(channels, before, config);
    } catch (error) {
      saesFront.reload(before.thisKme.saesInterface);
      kmesFront.reload(before.thisKme.kmesInterface);
      renewChannels(channels, config, before);
      directory.replace(this.#running);
      throw error;
    }
    this.#running = config;
  }
}

/** The other KMEs as they were, but for the certificates with which they call. */
function withCertificates(before: Config, config: Config): Config["otherKmes"] {
  return before.otherKmes.map((kme) => {
    const now = config.otherKmes.find(({ id }) => id.text === kme.id.text);
    if (!isNeighbour(kme) || now === undefined || !isNeighbour(now)) return kme;
    return { ...kme, certificates: now.certificates };
  });
}

function renewChannels(channels: Reloadable["channels"], before: Config, config: Config): void {
  for (const kme of config.otherKmes.filter(isNeighbour)) {
    const old = before.otherKmes.filter(isNeighbour).find(({ id }) => id.text === kme.id.text);
    const isUnchanged = old !== undefined && same(old.clientCertificate, kme.clientCertificate) &&
      old.serverCa === kme.serverCa;
    if (!isUnchanged) channels.get(kme.id.text)?.renew(kme);
  }
}
