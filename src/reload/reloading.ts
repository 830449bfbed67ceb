/** Applies a changed configuration to a running KME. */
import type { Access } from "../config/access.ts";
import type { Config, NeighbourKme, ThisKme } from "../config/config.ts";
import type { HttpsInterfaceName } from "../config/https_interfaces.ts";
import { isNeighbour } from "../domain/network.ts";
import type { Directory } from "../delivery/directory.ts";
import type { KmeId } from "../domain/ids.ts";
import type { Front } from "../tls/front.ts";
import type { ServerMaterial, VerifiedServer } from "../tls/verified_server.ts";
import { keptCa, planAccess } from "./access_plan.ts";
import { planReload, same } from "./reload_plan.ts";

/** The parts of a running KME that can change. */
export interface Reloadable {
  /** Those of the configuration with which the KME started. */
  readonly fronts: ReadonlyMap<HttpsInterfaceName, Pick<Front, "reload">>;
  /** By the neighbour's id. */
  readonly channels: ReadonlyMap<KmeId, Pick<VerifiedServer, "renew">>;
  /** QKD devices, by the neighbour's id. */
  readonly devices: ReadonlyMap<KmeId, Pick<VerifiedServer, "renew">>;
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
    const { fronts, directory } = this.#parts;
    this.#takeAway(config);
    const before = this.#running;
    try {
      reloadFronts(fronts, config.thisKme);
      renewServers(this.#parts, before, config);
    } catch (error) {
      reloadFronts(fronts, before.thisKme);
      renewServers(this.#parts, config, before);
      directory.replace(before);
      throw error;
    }
    this.#running = config;
  }

  /**
   * Applies who may connect: SAEs, the certificates with which neighbours call, and the CA certificates that were removed. Done
   * first and separately, and never rolled back, so that access is revoked even if the rest fails.
   */
  #takeAway(config: Config): void {
    const { fronts, directory } = this.#parts;
    directory.replace(config);
    const before = this.#running;
    this.#running = { ...before, otherKmes: withCertificates(before, config), saes: config.saes };
    const errors: unknown[] = [];
    const attempt = (apply: () => void) => {
      try {
        apply();
      } catch (error) {
        errors.push(error);
      }
    };
    for (const [name, front] of fronts) {
      attempt(() => {
        const { thisKme } = this.#running;
        const [running, wanted] = [thisKme[name], config.thisKme[name]];
        if (running === undefined || wanted === undefined) return;
        const clientCa = keptCa(running.clientCa, wanted.clientCa);
        if (clientCa === running.clientCa) return;
        const material = { ...running, clientCa };
        front.reload(material);
        this.#running = { ...this.#running, thisKme: { ...thisKme, [name]: material } };
      });
    }
    for (const kme of neighboursOf(this.#running)) {
      for (const part of SERVERS) {
        attempt(() => {
          const running = MATERIAL[part](kme);
          const wanted = neighboursOf(config).find(({ id }) => id.text === kme.id.text);
          const wantedCa = wanted && MATERIAL[part](wanted)?.serverCa;
          // The system's trust store is not a list of the configuration: a change from it or to it is made with the rest.
          if (running?.serverCa === undefined || wantedCa === undefined) return;
          const serverCa = keptCa(running.serverCa, wantedCa);
          if (serverCa === running.serverCa) return;
          this.#parts[part].get(kme.id.text)?.renew({ ...running, serverCa });
          const otherKmes = this.#running.otherKmes.map((other) =>
            other.id.text === kme.id.text && isNeighbour(other) ? WITH_CA[part](other, serverCa) : other
          );
          this.#running = { ...this.#running, otherKmes };
        });
      }
    }
    if (errors.length > 0) throw errors[0];
  }
}

function reloadFronts(fronts: Reloadable["fronts"], thisKme: ThisKme): void {
  for (const [name, front] of fronts) {
    const material = thisKme[name];
    if (material !== undefined) front.reload(material);
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

/** Servers that are called because of a neighbour: the neighbour itself, and the QKD device of the link with it. */
const SERVERS = ["channels", "devices"] as const;

/** What each of them is called with. */
const MATERIAL = {
  channels: (kme: NeighbourKme): ServerMaterial => kme,
  devices: (kme: NeighbourKme): ServerMaterial | undefined => kme.device,
};

const WITH_CA = {
  channels: (kme: NeighbourKme, serverCa: string): NeighbourKme => ({ ...kme, serverCa }),
  devices: (kme: NeighbourKme, serverCa: string): NeighbourKme => ({
    ...kme,
    device: kme.device && { ...kme.device, serverCa },
  }),
};

function neighboursOf({ otherKmes }: Config): NeighbourKme[] {
  return otherKmes.filter(isNeighbour);
}

function renewServers(parts: Pick<Reloadable, "channels" | "devices">, before: Config, config: Config): void {
  for (const kme of neighboursOf(config)) {
    const old = neighboursOf(before).find(({ id }) => id.text === kme.id.text);
    for (const part of SERVERS) {
      const [was, now] = [old && MATERIAL[part](old), MATERIAL[part](kme)];
      if (now === undefined) continue;
      const isUnchanged = was !== undefined && same(was.clientCertificate, now.clientCertificate) &&
        was.serverCa === now.serverCa;
      if (!isUnchanged) parts[part].get(kme.id.text)?.renew(now);
    }
  }
}
