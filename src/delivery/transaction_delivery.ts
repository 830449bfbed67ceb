/**
 * Keys for slaves of other KMEs that understand transactions: of any size, for several slaves at several KMEs; either all of
 * them get the keys or none does. The steps: reserve blocks, agree with every neighbour concerned, record the hand-over,
 * return the keys.
 */
import { randomBytes } from "node:crypto";
import type { Block, KeyIdBytes } from "../domain/block.ts";
import type { KmeId, SaeId } from "../domain/ids.ts";
import { mapKey, overwrite } from "../domain/bytes.ts";
import { applyPad, blocksPerKey, composeBits, isWholeBlock, type Key, newKeyId } from "../domain/key.ts";
import type { Link } from "../domain/link.ts";
import type { AdoptedReservation } from "../store/operations/adopt.ts";
import type { Claim } from "../store/operations/claim.ts";
import { chunks } from "../domain/chunks.ts";
import type { Store } from "../store/store.ts";
import { LimitReached, Unavailable } from "../domain/refusals.ts";
import type { Peer } from "./peer.ts";
import { formatPlan, type Hop, type Plan } from "./delivery_plan.ts";
import type { Recovery } from "./recovery.ts";
import { noLink } from "./routes.ts";
import type { StockAgreement } from "./stock_agreement.ts";
import type { ReservationFinisher } from "./reservation_finisher.ts";
import { RETRY_SECONDS } from "./sae_limiter.ts";
import { shortage } from "./shortage.ts";
import type { TransactionAnswer, TransactionKey } from "../domain/transaction.ts";

export interface TransactionRequest {
  readonly plan: Plan;
  readonly number: number;
  /** Bits of each key. */
  readonly size: number;
  readonly origin: KmeId;
  readonly master: SaeId;
  readonly expiresAt: number;
  readonly storedSince?: number;
  /** Blocks of a link that have to be left. */
  readonly keep: (link: KmeId) => number;
}

export interface TransactionDeliveryOptions {
  readonly store: Store;
  readonly peers: ReadonlyMap<KmeId, Peer>;
  readonly reservations: ReservationFinisher;
  readonly recovery: Recovery;
  /** By the neighbour's id. */
  readonly stocks: ReadonlyMap<KmeId, StockAgreement>;
}

/** Attempts with other blocks where a neighbour did not have some free. */
const MAX_ATTEMPTS = 8;

/** The same, where each attempt finds blocks that the neighbour does not have and skips them. */
const MAX_SKIPS = 64;

/** A part of the plan with what was reserved for it. */
interface Part {
  readonly hop: Hop;
  readonly peer: Peer;
  readonly link: Link;
  /** Of the hop's link, in order: the keys' own blocks where the hop composes, their pads elsewhere. */
  readonly blocks: readonly Block[];
}

interface Attempt {
  readonly id: KeyIdBytes;
  readonly keys: readonly Key[];
  readonly source: readonly Block[];
  readonly sourceLink: Link;
  readonly composing?: Part;
  readonly padded: readonly Part[];
}

type Outcome = { readonly keys: readonly Key[] } | {
  readonly failure: Unavailable;
  readonly again: boolean;
  /** The neighbour that does not have the blocks. */
  readonly refusedBy?: KmeId;
};

export class TransactionDelivery {
  readonly #options: TransactionDeliveryOptions;

  constructor(options: TransactionDeliveryOptions) {
    this.#options = options;
  }

  /**
   * @returns the keys, agreed with every KME concerned and durably recorded as handed over.
   * @throws Unavailable when there are too few blocks or a KME cannot take the keys; blocks that may still be used are released.
   * @throws StoreUnavailable
   */
  async deliver(request: TransactionRequest): Promise<readonly Key[]> {
    for (let [attempt, skips] = [1, 0];;) {
      const outcome = await this.#attempt(request);
      if ("keys" in outcome) return outcome.keys;
      if (!outcome.again) throw outcome.failure;
      if (await this.#skipMissing(request, outcome.refusedBy) && ++skips <= MAX_SKIPS) continue;
      if (++attempt > MAX_ATTEMPTS) throw outcome.failure;
    }
  }

  /** Finds blocks that the neighbour has, behind any number that it does not have. */
  async #skipMissing({ number, size }: TransactionRequest, refusedBy: KmeId | undefined): Promise<boolean> {
    const stock = refusedBy === undefined ? undefined : this.#options.stocks.get(refusedBy);
    if (stock === undefined) return false;
    const ability = await this.#options.peers.get(refusedBy!)?.ability();
    if (ability?.kind !== "transactions" || !ability.comparesStock) return false;
    return await stock.skipMissing(number * blocksPerKey(size));
  }

  async #attempt(request: TransactionRequest): Promise<Outcome> {
    const attempt = await this.#reserve(request);
    const outcome = await this.#agree(request, attempt);
    // Not after an error: the store may still be going to store them.
    for (const part of attempt.padded) overwrite(part.blocks);
    if (!("keys" in outcome)) overwrite(attempt.keys);
    // Otherwise they are the bits of the keys.
    if (!("keys" in outcome) || !isWholeBlock(request.size)) overwrite(attempt.source);
    return outcome;
  }

  async #agree(request: TransactionRequest, attempt: Attempt): Promise<Outcome> {
    const { composing } = attempt;
    if (composing !== undefined) {
      const answer = await this.#send(request, attempt, composing);
      if (answer.kind !== "activated") return await this.#composingFailed(attempt, composing, answer);
    }
    // Only after the composing neighbour has accepted: keys that it refuses were then sent to no other KME.
    const answers = await Promise.all(attempt.padded.map((part) => this.#send(request, attempt, part)));
    if (answers.every((answer) => answer.kind === "activated")) return await this.#handOver(request, attempt);
    return await this.#paddedFailed(attempt, answers);
  }

  async #reserve({ plan, number, size, master, storedSince, keep }: TransactionRequest): Promise<Attempt> {
    const { store, peers, reservations } = this.#options;
    const blocks = number * blocksPerKey(size);
    const links = plan.hops.map((hop) => ({ hop, peer: peers.get(hop.kme), link: store.link(hop.kme) }));
    const source = store.link(plan.source);
    if (source === undefined) throw noLink(plan.source);
    const claims: Claim[] = [{ link: source, blocks, storedSince, keep: keep(source.kme) }];
    for (const { hop, link } of links) {
      if (link === undefined) throw noLink(hop.kme);
      if (!hop.composes) claims.push({ link, blocks, pad: true, keep: keep(link.kme) });
    }
    const id = Uint8Array.from(randomBytes(16));
    const reserved = await store.reserve({
      reservation: id,
      claims,
      plan: formatPlan({ transaction: id, hops: plan.hops }),
    })
      .catch((error) => {
        reservations.notReserved(id, error);
        throw error;
      });
    if (reserved === undefined) throw await shortage(store, master, claims);
    const [sourceBlocks, ...pads] = reserved as [Block[], ...Block[][]];
    const parts = links.map(({ hop, peer, link }): Part => ({
      hop,
      peer: peer!,
      link: link!,
      blocks: hop.composes ? sourceBlocks : pads.shift()!,
    }));
    return {
      id,
      source: sourceBlocks,
      sourceLink: source,
      keys: [...chunks(sourceBlocks, blocksPerKey(size))].map((part) => ({
        id: newKeyId(),
        bits: composeBits(part, size),
      })),
      composing: parts.find((part) => part.hop.composes),
      padded: parts.filter((part) => !part.hop.composes),
    };
  }

  #send(request: TransactionRequest, attempt: Attempt, part: Part): Promise<TransactionAnswer> {
    const perKey = blocksPerKey(request.size);
    const keys = attempt.keys.map((key, i): TransactionKey => {
      const blocks = part.blocks.slice(i * perKey, (i + 1) * perKey);
      return {
        id: key.id,
        size: request.size,
        blocks: blocks.map((block) => block.id),
        padded: part.hop.composes ? undefined : applyPad(key.bits, composeBits(blocks, request.size)),
      };
    });
    return part.peer.send({ id: attempt.id, origin: request.master, keys, recipients: part.hop.recipients });
  }

  async #handOver(request: TransactionRequest, attempt: Attempt): Promise<Outcome> {
    const all = allBlocks(attempt);
    const result = await this.#options.reservations.now({
      reservation: attempt.id,
      spend: all,
      keys: attempt.keys.map((key, i) => ({
        id: key.id,
        block: isWholeBlock(request.size) ? attempt.source[i]!.id : undefined,
        origin: request.origin,
        master: request.master,
        // Only slaves that read here: when the last of them has read the key, its bits are removed from the store.
        slaves: request.plan.localSlaves,
        expiresAt: request.expiresAt,
        bits: request.plan.localSlaves.length > 0 ? key.bits : undefined,
      })),
    }, { reservation: attempt.id, unresolved: all });
    if (result.ok) return { keys: attempt.keys };
    // The peer took a block, or another process considers this one dead and resolves the transaction; then this does nothing.
    await this.#options.reservations.eventually({ reservation: attempt.id, unresolved: all });
    return {
      failure: new Unavailable("the keys were lost while they were being agreed, try again"),
      again: false,
    };
  }

  async #composingFailed(attempt: Attempt, part: Part, answer: TransactionAnswer): Promise<Outcome> {
    const { reservations } = this.#options;
    const reservation = attempt.id;
    const pads = attempt.padded.flatMap((other) => idsOf(other.blocks));
    if (answer.kind === "refused") {
      const named = new Set(answer.blocks.map(mapKey));
      const notYet = new Set(answer.absent.map(mapKey));
      const [missing, free] = partition(idsOf(attempt.source), (id) => named.has(mapKey(id)));
      const [absent, refused] = partition(missing, (id) => notYet.has(mapKey(id)));
      const stock = this.#options.stocks.get(part.hop.kme);
      const ability = await part.peer.ability();
      const told = ability.kind === "transactions" && ability.comparesStock ? stock : undefined;
      await reservations.eventually({
        reservation,
        refused,
        // A neighbour that compares its stock tells when it has them; any other is asked for them again after a while.
        absent: told === undefined ? absent : [],
        release: [...free, ...pads, ...told === undefined ? [] : absent],
      });
      if (told !== undefined && absent.length > 0) await told.missing(absent);
      return {
        failure: failure(part, "does not have the keys"),
        again: missing.length > 0,
        refusedBy: part.hop.kme,
      };
    }
    if (answer.kind === "unreached" || answer.kind === "rejected") {
      await reservations.eventually({ reservation, release: allBlocks(attempt) });
      const limit = answer.kind === "rejected" ? answer.limit : undefined;
      return { failure: failure(part, answer.reason, limit), again: false };
    }
    await reservations.eventually({ reservation, release: pads, unresolved: idsOf(attempt.source) });
    void this.#options.recovery.resolve(unresolved(attempt, [part], this.#options.store.now()));
    return { failure: failure(part, answer.kind === "unknown" ? answer.reason : undefined), again: false };
  }

  async #paddedFailed(attempt: Attempt, answers: readonly TransactionAnswer[]): Promise<Outcome> {
    const { reservations, recovery } = this.#options;
    // A pad that was not sent may be used again; any other is burnt on both ends.
    const unsent = attempt.padded.filter((_, i) => answers[i]!.kind === "unreached");
    const sent = attempt.padded.filter((_, i) => answers[i]!.kind !== "unreached");
    await reservations.eventually({
      reservation: attempt.id,
      release: unsent.flatMap((part) => idsOf(part.blocks)),
      unresolved: [...idsOf(attempt.source), ...sent.flatMap((part) => idsOf(part.blocks))],
    });
    const parts = attempt.composing === undefined ? sent : [attempt.composing, ...sent];
    const resolved = await recovery.resolve(unresolved(attempt, parts, this.#options.store.now()));
    const failed = answers.findIndex((answer) => answer.kind !== "activated");
    const answer = answers[failed]!;
    const onlyRefusals = answers.every(({ kind }) => kind === "activated" || kind === "refused");
    return {
      failure: failure(
        attempt.padded[failed]!,
        "reason" in answer ? answer.reason : "does not have the keys",
        answer.kind === "rejected" ? answer.limit : undefined,
      ),
      again: resolved && onlyRefusals,
      refusedBy: onlyRefusals ? attempt.padded[failed]!.hop.kme : undefined,
    };
  }
}

function allBlocks({ source, padded }: Attempt): KeyIdBytes[] {
  return [...idsOf(source), ...padded.flatMap((part) => idsOf(part.blocks))];
}

function idsOf(blocks: readonly Block[]): KeyIdBytes[] {
  return blocks.map((block) => block.id);
}

function partition<T>(items: readonly T[], isFirst: (item: T) => boolean): [T[], T[]] {
  const parts: [T[], T[]] = [[], []];
  for (const item of items) parts[isFirst(item) ? 0 : 1].push(item);
  return parts;
}

/** The reservation as recovery would find it in the store. */
function unresolved(attempt: Attempt, parts: readonly Part[], now: number): AdoptedReservation {
  const padded = parts.filter((part) => !part.hop.composes);
  return {
    id: attempt.id,
    plan: formatPlan({ transaction: attempt.id, hops: parts.map((part) => part.hop) }),
    since: now,
    blocks: [
      ...attempt.source.map(({ id }) => ({ id, linkId: attempt.sourceLink.id })),
      ...padded.flatMap((part) => part.blocks.map(({ id }) => ({ id, linkId: part.link.id }))),
    ],
  };
}

function failure({ hop }: Part, reason?: string, limit?: "max_waiting_keys"): Unavailable {
  if (limit !== undefined) return new LimitReached(reason!, limit, RETRY_SECONDS[limit]);
  return new Unavailable("the keys cannot be activated on every slave's KME", [
    { peer: reason?.includes("KME") ? reason : `KME ${hop.kme} ${reason ?? "did not agree"}` },
  ]);
}
