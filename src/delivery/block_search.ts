/**
 * Where a peer's blocks are looked for that refuses some of ours and does not say which it has. Blocks come in files, so the
 * ones that it has are neighbours in the order of ingestion: places are tried that divide the stock ever more finely, and
 * blocks are taken from where some were found. So a part of the stock is found after about as many attempts as it would
 * fit into the whole.
 */
import { mapKey } from "../domain/bytes.ts";
import type { KeyIdBytes } from "../domain/block.ts";
import type { FreeRange } from "../store/engine/queries.ts";
import type { Place } from "../store/operations/claim.ts";

/** Messages in which the peer accepts nothing, in one request. */
const MAX_MISSES = 64;

/** The same while searches find nothing, between two that go on for longer. */
const FEW_MISSES = 8;

/** Searches that find nothing before they become rarer. */
const EAGER_SEARCHES = 8;

/** Refusals in a row before another place is tried. */
const MISSES_IN_A_PLACE = 2;

/** Milliseconds between two long searches at first, and at most. */
const FIRST_PAUSE_MS = 1000;
const MAX_PAUSE_MS = 60_000;

/** Milliseconds after which the older blocks come first again. */
const FORGET_MS = 5 * 60_000;

/** Milliseconds until a refused block is tried again: at first, how often as long after each refusal, and at most. */
const FIRST_RETRY_MS = 5000;
const RETRY_FACTOR = 4;
const MAX_RETRY_MS = 24 * 3600 * 1000;

/** Refused blocks that are remembered. */
const MAX_REMEMBERED = 20_000;

/** What is known of the stock of one peer. */
export class BlockSearch {
  /** A place where the peer had blocks. */
  #found?: { readonly from: Place; readonly until: number };
  /** Places tried since then. */
  #places = 0;
  /** Searches in a row that found nothing. */
  #vain = 0;
  #nextLong = 0;
  /** How often each block was refused. */
  readonly #refusals = new Map<string, number>();

  /** Begins the search of one request. */
  begin(now = performance.now()): RequestSearch {
    if (this.#found !== undefined && this.#found.until < now) this.#found = undefined;
    const long = this.#vain < EAGER_SEARCHES || now >= this.#nextLong;
    return new RequestSearch(this, long ? MAX_MISSES : FEW_MISSES, this.#found?.from);
  }

  /** The next place to try: the most recently ingested blocks, then the middle, the quarters, and so on. */
  nextPlace({ first, last }: FreeRange): Place {
    const place = this.#places++;
    return {
      seq: place === 0 ? last + 1 : first + Math.floor((last - first + 1) * vanDerCorput(place)),
      backwards: place === 0,
    };
  }

  foundAt(from: Place | undefined): void {
    this.#vain = 0;
    if (from === undefined || from === this.#found?.from) return;
    this.#found = { from, until: performance.now() + FORGET_MS };
    this.#places = 0;
  }

  /** A request ended for which the peer accepted nothing. */
  foundNothing(now = performance.now()): void {
    this.#vain++;
    const pause = FIRST_PAUSE_MS * 2 ** Math.max(0, this.#vain - EAGER_SEARCHES);
    if (now >= this.#nextLong) this.#nextLong = now + Math.min(MAX_PAUSE_MS, pause);
  }

  /** Remembers that the peer refused blocks; returns after how many milliseconds they are tried again. */
  refused(blocks: readonly KeyIdBytes[]): number {
    let least = Infinity;
    for (const id of blocks) {
      const key = mapKey(id);
      const count = this.#refusals.get(key) ?? 0;
      least = Math.min(least, count);
      this.#refusals.delete(key);
      this.#refusals.set(key, count + 1);
    }
    for (const key of this.#refusals.keys()) {
      if (this.#refusals.size <= MAX_REMEMBERED) break;
      this.#refusals.delete(key);
    }
    return Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * RETRY_FACTOR ** (blocks.length === 0 ? 0 : least));
  }
}

/** The search of one request. */
export class RequestSearch {
  readonly #search: BlockSearch;
  #missesLeft: number;
  #missesHere = 0;
  /** Where blocks are taken; absent: in the usual order. */
  from: Place | undefined;
  /** A place where blocks were found before, of which only those behind it were looked at. */
  #turn: boolean;
  /** Whether the last message found nothing: then one block is enough to learn whether the next one does. */
  searching = false;

  constructor(search: BlockSearch, misses: number, from: Place | undefined) {
    this.#search = search;
    this.#missesLeft = misses;
    this.from = from;
    this.#turn = from?.backwards === false;
  }

  /** The peer accepted blocks. */
  hit(): void {
    this.searching = false;
    this.#missesHere = 0;
    this.#turn = this.from?.backwards === false;
    this.#search.foundAt(this.from);
  }

  /**
   * The peer accepted nothing.
   *
   * @returns false when the request has to end here.
   */
  async miss(range: () => Promise<FreeRange | undefined>): Promise<boolean> {
    this.searching = true;
    if (--this.#missesLeft <= 0) return false;
    if (++this.#missesHere < MISSES_IN_A_PLACE) return true;
    if (this.#turn) {
      this.#turn = false;
      this.#missesHere = 0;
      this.from = { seq: this.from!.seq, backwards: true };
      return true;
    }
    const free = await range();
    if (free !== undefined) this.from = this.#search.nextPlace(free);
    return true;
  }
}

/** 1/2, 1/4, 3/4, 1/8, 5/8, ...: each fraction is far from those before it. */
function vanDerCorput(index: number): number {
  let fraction = 0;
  for (let rest = index, weight = 0.5; rest > 0; rest >>>= 1, weight /= 2) fraction += (rest & 1) * weight;
  return fraction;
}
