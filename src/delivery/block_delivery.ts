/**
 * Keys for a slave of a KME that knows only the message of `qkd_kme_server`: whole blocks, one slave. Reserve here, agree
 * with the peer, record, hand over.
 */
import { randomBytes } from "node:crypto";
import { log } from "../log.ts";
import type { KeyIdBytes } from "../domain/block.ts";
import type { ConfiguredId, KmeId } from "../domain/ids.ts";
import { mapKey } from "../domain/bytes.ts";
import type { Key } from "../domain/key.ts";
import type { Link } from "../domain/link.ts";
import type { Store } from "../store/store.ts";
import { Unavailable } from "../domain/refusals.ts";
import type { Peer, PeerAnswer } from "./peer.ts";
import type { ReservationFinisher } from "./reservation_finisher.ts";
import { shortage } from "./shortage.ts";

export interface BlockRequest {
  readonly link: Link;
  readonly peer: Peer;
  readonly number: number;
  readonly origin: KmeId;
  readonly master: ConfiguredId;
  readonly slave: ConfiguredId;
  /** Milliseconds since 1970. */
  readonly expiresAt: number;
  /** Only of blocks stored at or after this time, milliseconds since 1970. */
  readonly storedSince?: number;
}

/** Attempts with other blocks for those that the peer refused. */
const MAX_ROUNDS = 8;

/** Blocks remembered as refused by a peer that accepted nothing at all. */
const MAX_SUSPECTS = 1000;

interface Agreement {
  readonly reservation: KeyIdBytes;
  readonly bits: Map<string, Uint8Array>;
  readonly activated: KeyIdBytes[];
  readonly refused: KeyIdBytes[];
}

export class BlockDelivery {
  readonly #store: Store;
  readonly #reservations: ReservationFinisher;
  /**
   * Blocks that a peer refused while it accepted nothing: the peer may be at fault, or the blocks. They stay in the
   * pool, and requests start from its other end, until the peer accepts something: one of them, and it was the peer, or
   * others, and it was the blocks.
   */
  readonly #suspects = new Map<Link, KeyIdBytes[]>();

  constructor(store: Store, reservations: ReservationFinisher) {
    this.#store = store;
    this.#reservations = reservations;
  }

  /**
   * @returns the keys, activated on the peer and durably recorded as handed over.
   * @throws Unavailable when blocks are short or the peer does not agree; nothing is spent that may still be used.
   * @throws StoreUnavailable
   */
  async deliver(request: BlockRequest): Promise<Key[]> {
    const agreement: Agreement = {
      reservation: Uint8Array.from(randomBytes(16)),
      bits: new Map(),
      activated: [],
      refused: [],
    };
    await this.#agree(request, agreement);
    const { reservation, activated, refused } = agreement;
    const keys = activated.map((id): Key => ({ id, bits: agreement.bits.get(mapKey(id))! }));
    const result = await this.#reservations.now({
      reservation,
      spend: activated,
      refused,
      keys: activated.map((id) => ({
        id,
        origin: request.origin,
        master: request.master.text,
        slaves: [],
        expiresAt: request.expiresAt,
      })),
    }, { reservation, burn: activated, refused });
    if (!result.ok) {
      await this.#reservations.eventually({ reservation, burn: activated, refused });
      throw new Unavailable("keys were lost while they were being agreed with the peer, try again");
    }
    await this.#peerAccepted(request.link, activated);
    return keys;
  }

  async #agree(request: BlockRequest, agreement: Agreement): Promise<void> {
    let missing = request.number;
    for (let round = 0; missing > 0; round++) {
      const ids = await this.#reserve(request, agreement, missing);
      const answer = await request.peer.activate({
        keyIds: ids,
        origin: request.master,
        remote: request.slave,
      });
      agreement.activated.push(...answer.activated);
      agreement.refused.push(...answer.refused);
      missing = answer.refused.length;
      if (answer.untouched.length > 0 || answer.unknown.length > 0) {
        await this.#giveUp(request, agreement, answer);
        throw peerUnavailable(request, answer.reason);
      }
      if (missing > 0 && round === MAX_ROUNDS) {
        await this.#giveUp(request, agreement);
        throw peerUnavailable(request, `KME ${request.link.kme} refuses the keys`);
      }
    }
  }

  async #reserve(request: BlockRequest, agreement: Agreement, blocks: number): Promise<KeyIdBytes[]> {
    let reserved;
    try {
      reserved = await this.#store.reserve({
        reservation: agreement.reservation,
        claims: [{
          link: request.link,
          blocks,
          fromFarEnd: this.#suspects.has(request.link),
          storedSince: request.storedSince,
        }],
      });
    } catch (error) {
      const { reservation, activated, refused } = agreement;
      if (agreement.bits.size === 0) this.#reservations.notReserved(reservation, error);
      else void this.#reservations.eventually({ reservation, burn: activated, refused, releaseRest: true });
      throw error;
    }
    if (reserved === undefined) {
      await this.#giveUp(request, agreement);
      throw await shortage(this.#store, [{ ...request, blocks }]);
    }
    return reserved[0]!.map(({ id, bits }) => {
      agreement.bits.set(mapKey(id), bits);
      return id;
    });
  }

  /** Ends the reservation of a request that fails. */
  async #giveUp({ link }: BlockRequest, agreement: Agreement, answer?: PeerAnswer): Promise<void> {
    const { reservation, activated, refused } = agreement;
    if (agreement.bits.size === 0) return;
    const nothingAccepted = activated.length === 0;
    const burn = [...activated, ...answer?.unknown ?? []];
    await this.#reservations.eventually({
      reservation,
      burn,
      release: [...answer?.untouched ?? [], ...nothingAccepted ? refused : []],
      refused: nothingAccepted ? [] : refused,
    });
    if (nothingAccepted && refused.length > 0) this.#suspect(link, refused);
    if (burn.length > 0) {
      log("delivery").warn("{count} blocks burnt: their state at the peer is unknown", {
        count: burn.length,
      });
    }
  }

  #suspect(link: Link, blocks: readonly KeyIdBytes[]): void {
    const known = this.#suspects.get(link) ?? [];
    this.#suspects.set(link, [...known, ...blocks].slice(-MAX_SUSPECTS));
  }

  async #peerAccepted(link: Link, activated: readonly KeyIdBytes[]): Promise<void> {
    const suspects = this.#suspects.get(link);
    if (suspects === undefined) return;
    this.#suspects.delete(link);
    const accepted = new Set(activated.map(mapKey));
    if (suspects.some((id) => accepted.has(mapKey(id)))) return;
    const count = await this.#store.setAside({ link, blocks: suspects }).catch(() => 0);
    log("delivery").warn("{count} blocks set aside: KME {kme} does not have them", { count, kme: link.kme });
  }
}

function peerUnavailable({ link }: BlockRequest, reason?: string): Unavailable {
  return new Unavailable("the keys cannot be activated on the slave's KME", [
    { peer: reason ?? `KME ${link.kme} did not agree` },
  ]);
}
