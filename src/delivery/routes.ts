/** Through which neighbour each KME is reached, as configured. */
import type { OtherKme } from "../config/config.ts";
import type { KmeId } from "../domain/ids.ts";
import { Unavailable } from "../domain/refusals.ts";
import type { Recipients } from "../domain/transaction.ts";

export class Routes {
  readonly #nextHops: ReadonlyMap<KmeId, KmeId>;

  /** @param otherKmes without loops; the configuration's check refuses those. */
  constructor(otherKmes: readonly OtherKme[]) {
    const through = new Map(
      otherKmes.flatMap((kme) => "reachedThrough" in kme ? [[kme.id.text, kme.reachedThrough] as const] : []),
    );
    const neighbourOf = (kme: KmeId): KmeId => {
      const next = through.get(kme);
      return next === undefined ? kme : neighbourOf(next);
    };
    this.#nextHops = new Map(otherKmes.map((kme) => [kme.id.text, neighbourOf(kme.id.text)]));
  }

  /** The neighbour through which a KME is reached: itself where there is a link; `undefined` for an unknown KME. */
  nextHop(kme: KmeId): KmeId | undefined {
    return this.#nextHops.get(kme);
  }

  /** Recipients grouped by the neighbour through which they are reached. */
  byNextHop(recipients: readonly Recipients[]): Map<KmeId, Recipients[]> {
    const hops = new Map<KmeId, Recipients[]>();
    for (const recipient of recipients) {
      const hop = this.nextHop(recipient.kme);
      if (hop === undefined) continue;
      const list = hops.get(hop);
      if (list === undefined) hops.set(hop, [recipient]);
      else list.push(recipient);
    }
    return hops;
  }
}

/** The refusal of keys for a KME that no configured link leads to. */
export function noLink(kme: KmeId): Unavailable {
  return new Unavailable("the slave's KME cannot be reached", [{
    peer: `no link with KME ${kme} is configured`,
  }]);
}
