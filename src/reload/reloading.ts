/** Applies a changed configuration to a running KME. */
import type { Config } from "../config/config.ts";
import { isNeighbour } from "../domain/network.ts";
import type { Directory } from "../delivery/directory.ts";
import type { KmeId } from "../domain/ids.ts";
import type { PeerChannel } from "../inter_kme/channel.ts";
import type { Front } from "../tls/front.ts";
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
   * @throws Error with one line when a certificate cannot be used; then nothing changes.
   */
  reload(changed: Config): readonly string[] {
    const { config, ignored } = planReload(this.#running, changed);
    try {
      this.#apply(config, this.#running);
    } catch (error) {
      this.#apply(this.#running, config);
      throw error;
    }
    this.#running = config;
    return ignored;
  }

  #apply(config: Config, before: Config): void {
    const { saesFront, kmesFront, channels, directory } = this.#parts;
    saesFront.reload(config.thisKme.saesInterface);
    kmesFront.reload(config.thisKme.kmesInterface);
    for (const kme of config.otherKmes.filter(isNeighbour)) {
      const old = before.otherKmes.filter(isNeighbour).find(({ id }) => id.text === kme.id.text);
      const unchanged = old !== undefined && same(old.clientCertificate, kme.clientCertificate) &&
        old.serverCa === kme.serverCa;
      if (!unchanged) channels.get(kme.id.text)?.renew(kme);
    }
    directory.replace(config);
  }
}
