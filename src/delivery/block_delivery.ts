/**
 * Keys for a slave of a KME that understands only the message of `qkd_kme_server`: whole blocks, one slave. The steps:
 * reserve blocks, activate them at the peer, record the hand-over, return the keys.
 */
import { randomBytes } from "node:crypto";
import { log } from "../log.ts";
import type { KeyIdBytes } from "../domain/block.ts";
import type { ConfiguredId, KmeId } from "../domain/ids.ts";
import { mapKey, overwrite } from "../domain/bytes.ts";
import type { Key } from "../domain/key.ts";
import type { Link } from "../domain/link.ts";
import type { Store } from "../store/store.ts";
import type { Place } from "../store/operations/claim.ts";
import { BlockSearch, type RequestSearch } from "./block_search.ts";
import { Unavailable } from "../domain/refusals.ts";
import type { KeyObserver } from "./key_observer.ts";
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
  /** Blocks of a link that have to be left. */
  readonly keep: (link: KmeId) => number;
}

/** Blocks remembered for a peer that refused them and accepted no others. */
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
  readonly #observer: KeyObserver;
  /**
   * Blocks that a peer refused while it accepted none: either the peer fails, or it does not have these blocks. They stay
   * in the pool until the peer accepts a block. If that is one of them, the peer had failed; otherwise the peer does not
   * have them, and they are set aside.
   */
  readonly #suspects = new Map<Link, KeyIdBytes[]>();
  readonly #searches = new Map<Link, BlockSearch>();

  constructor(store: Store, reservations: ReservationFinisher, observer: KeyObserver) {
    this.#store = store;
    this.#observer = observer;
    this.#reservations = reservations;
  }

  /**
   * @returns the keys, activated on the peer and durably recorded as handed over.
   * @throws Unavailable when there are too few blocks or the peer does not agree; blocks that may still be used are released.
   * @throws StoreUnavailable
   */
  async deliver(request: BlockRequest): Promise<Key[]> {
    const agreement: Agreement = {
      reservation: Uint8Array.from(randomBytes(16)),
      bits: new Map(),
      activated: [],
      refused: [],
    };
    let keys: Key[] = [];
    try {
      return keys = await this.#deliver(request, agreement);
    } finally {
      const returned = new Set(keys.map(({ bits }) => bits));
      overwrite([...agreement.bits.values()].filter((bits) => !returned.has(bits)).map((bits) => ({ bits })));
    }
  }

  async #deliver(request: BlockRequest, agreement: Agreement): Promise<Key[]> {
    await this.#agree(request, agreement);
    const { reservation, activated, refused: absent } = agreement;
    // The peer knows the keys by the digests of their blocks only.
    const keys = activated.map((id): Key => ({ id, bits: agreement.bits.get(mapKey(id))! }));
    const retryAfter = this.#search(request.link).refused(absent);
    const result = await this.#reservations.now({
      reservation,
      spend: activated,
      absent,
      retryAfter,
      keys: activated.map((id) => ({
        id,
        block: id,
        origin: request.origin,
        master: request.master.text,
        slaves: [],
        expiresAt: request.expiresAt,
      })),
    }, { reservation, burn: activated, absent, retryAfter });
    if (!result.ok) {
      await this.#reservations.eventually({ reservation, burn: activated, absent, retryAfter });
      throw new Unavailable("keys were lost while they were being agreed with the peer, try again");
    }
    this.#reportRefused(request.link, absent);
    await this.#peerAccepted(request.link, activated);
    return keys;
  }

  async #agree(request: BlockRequest, agreement: Agreement): Promise<void> {
    const search = this.#search(request.link).begin();
    for (let missing = request.number; missing > 0;) {
      const ids = await this.#reserve(request, agreement, search.searching ? 1 : missing, search.from);
      const answer = await request.peer.activate({
        keyIds: ids,
        origin: request.master,
        remote: request.slave,
      });
      agreement.activated.push(...answer.activated);
      agreement.refused.push(...answer.refused);
      missing -= answer.activated.length;
      if (answer.untouched.length > 0 || answer.unknown.length > 0) {
        await this.#giveUp(request, agreement, answer);
        throw peerUnavailable(request, answer.reason);
      }
      if (answer.activated.length > 0) search.hit();
      else if (!await this.#searchOn(request, agreement, search)) {
        await this.#giveUp(request, agreement);
        throw peerUnavailable(request, `KME ${request.link.kme} refuses the keys`);
      }
    }
  }

  async #searchOn({ link }: BlockRequest, agreement: Agreement, search: RequestSearch): Promise<boolean> {
    try {
      return await search.miss(() => this.#store.freeRange(link));
    } catch (error) {
      this.#abandon(agreement);
      throw error;
    }
  }

  #search(link: Link): BlockSearch {
    let search = this.#searches.get(link);
    if (search === undefined) this.#searches.set(link, search = new BlockSearch());
    return search;
  }

  async #reserve(
    request: BlockRequest,
    agreement: Agreement,
    blocks: number,
    from: Place | undefined,
  ): Promise<KeyIdBytes[]> {
    let reserved;
    try {
      reserved = await this.#store.reserve({
        reservation: agreement.reservation,
        claims: [{
          link: request.link,
          blocks,
          from,
          storedSince: request.storedSince,
          keep: request.keep(request.link.kme),
        }],
      });
    } catch (error) {
      if (agreement.bits.size === 0) this.#reservations.notReserved(agreement.reservation, error);
      else this.#abandon(agreement);
      throw error;
    }
    if (reserved === undefined) {
      await this.#giveUp(request, agreement);
      const { link, master, storedSince } = request;
      const keep = request.keep(link.kme);
      throw await shortage(this.#store, master.text, [{ link, blocks, storedSince, keep }]);
    }
    return reserved[0]!.map(({ id, bits }) => {
      agreement.bits.set(mapKey(id), bits);
      return id;
    });
  }

  /** Ends the reservation of a request whose store failed. */
  #abandon({ reservation, activated }: Agreement): void {
    void this.#reservations.eventually({ reservation, burn: activated, releaseRest: true });
  }

  /** Ends the reservation of a request that fails. */
  async #giveUp({ link }: BlockRequest, agreement: Agreement, answer?: PeerAnswer): Promise<void> {
    const { reservation, activated, refused } = agreement;
    if (agreement.bits.size === 0) return;
    this.#reportRefused(link, refused);
    const nothingAccepted = activated.length === 0;
    const burn = [...activated, ...answer?.unknown ?? []];
    await this.#reservations.eventually({
      reservation,
      burn,
      release: [...answer?.untouched ?? [], ...nothingAccepted ? refused : []],
      absent: nothingAccepted ? [] : refused,
      retryAfter: nothingAccepted ? undefined : this.#search(link).refused(refused),
    });
    if (nothingAccepted && refused.length > 0) {
      this.#suspect(link, refused);
      this.#search(link).foundNothing();
    }
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
    const retryAfter = this.#search(link).refused(suspects);
    await this.#store.setAside({ link, blocks: suspects, retryAfter }).catch(() => {});
  }

  /** The request does not wait for the names of the files. */
  #reportRefused(link: Link, refused: readonly KeyIdBytes[]): void {
    if (refused.length === 0) return;
    void this.#store.fileNamesOf(link, refused).catch((): string[] => [])
      .then((files) => this.#observer.blocksRefused(link.kme, refused.length, files));
  }
}

function peerUnavailable({ link }: BlockRequest, reason?: string): Unavailable {
  return new Unavailable("the keys cannot be activated on the slave's KME", [
    { peer: reason ?? `KME ${link.kme} did not agree` },
  ]);
}
