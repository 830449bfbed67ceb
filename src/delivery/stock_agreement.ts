/**
 * Keeps the stock of a link to the blocks that both ends have. Each end asks the other what it has ingested, takes blocks that
 * the other does not have out of its own stock, and puts them back once the other has them. What is asked costs as much as
 * the two ends differ: sums over all files first, lists of files where the sums differ, key_IDs only of files that differ.
 */
import type { KeyIdBytes } from "../domain/block.ts";
import type { KmeId } from "../domain/ids.ts";
import type { Link } from "../domain/link.ts";
import {
  addHashes,
  BlockPresence,
  bucketOf,
  type BucketSummary,
  DEVICE_KEYS_NAME,
  DEVICE_TAG,
  differingBuckets,
  type FileTag,
  type HeldFile,
  listable,
  MAX_ASKED_BLOCKS,
  MAX_LISTED_FILES,
  type StockAnswer,
  type StockFile,
  type StockQuestion,
  summarize,
} from "../domain/stock_questions.ts";
import { errorMessage } from "../domain/text.ts";
import { log } from "../log.ts";
import type { Store } from "../store/store.ts";
import { BlockState } from "../store/table_schema.ts";
import type { Peer } from "./peer.ts";

/** Milliseconds between two comparisons when nothing happens. */
const IDLE_MS = 15_000;

/** Milliseconds from a change to the comparison: files that arrive together are compared together. */
const SOON_MS = 200;

/** Blocks looked at in one page of the own stock. */
const PAGE = MAX_ASKED_BLOCKS;

/** Blocks up to which asking for each of them is cheaper than adding up what is held of every file. */
const MAX_ASKED_AT_ONCE = 65_536;

/**
 * Milliseconds for which a file has to differ before that is told: on a link in use, files come to one end some time before
 * they come to the other.
 */
const LASTING_MS = 5000;

/** Files whose blocks are selected by their names; of more files all blocks are looked at. */
const MAX_TAGS = 500;

/** A file of which one end has blocks that the other does not have. */
export interface UnmatchedFile {
  /** Name without directory. */
  readonly name: string;
  /** Blocks that only this KME has. */
  readonly here: number;
  /** Blocks that the other end has ingested beyond those that this KME has. */
  readonly there: number;
}

/** How far the two ends of a link agree. */
export interface AgreementState {
  readonly link: KmeId;
  /** Blocks of this KME that the other end does not have, also of files that differ only since a moment ago. */
  readonly blocks: number;
  /** When the two ends were compared last; absent: not yet, or the other end does not tell what it has. */
  readonly comparedAt?: Date;
  /** Since when one of `files` has differed; absent: there are none. */
  readonly since?: Date;
  /** Files that have differed for some seconds: at most 100, the largest differences first. */
  readonly files: readonly UnmatchedFile[];
}

export interface StockAgreementOptions {
  readonly store: Store;
  readonly link: Link;
  readonly peer: Peer;
  /** Told when a file begins to differ, with that file first, and when none differs any more. */
  readonly onChange?: (state: AgreementState) => void;
  readonly idleMs?: number;
}

export class StockAgreement {
  readonly #options: StockAgreementOptions;
  #state: AgreementState;
  #timer?: ReturnType<typeof setTimeout>;
  #due = Infinity;
  #running?: Promise<void>;
  #again = false;
  #closed = false;
  /** What the peer last said it has, and what was asked about it. */
  #theirSummary = "";
  #checkedWith = "";
  /** Files of the peer by bucket, as far as they differ from ours. */
  #theirs = new Map<number, readonly StockFile[]>();
  /** The peer's database of the last comparison. */
  #peerDatabase?: string;
  /** One of the two databases is new to the other: the other may have used blocks that are in its files. */
  #isNewPair = false;
  /** Files that were compared block by block since then. */
  readonly #proven = new Set<FileTag>();
  /** Free blocks at both ends at the last comparison, and when a difference was last looked into. */
  #numbers = "";
  #explained = "";
  /** Since when each file has differed: the time, and milliseconds of a steady clock. */
  #differing = new Map<string, { readonly since: Date; readonly begin: number }>();
  /** Names of the files that were told. */
  #told: ReadonlySet<string> = new Set();
  /** Sums of the peer's last question: when they change, it has ingested something. */
  #asked = "";

  constructor(options: StockAgreementOptions) {
    this.#options = options;
    this.#state = { link: options.link.kme, blocks: 0, files: [] };
  }

  get state(): AgreementState {
    return this.#state;
  }

  /** Compares soon: blocks were ingested, or the peer is back. */
  changed(): void {
    this.#schedule(SOON_MS);
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#running;
  }

  /**
   * Answers a question of the other end.
   *
   * @throws StoreUnavailable
   */
  async answer(question: StockQuestion): Promise<StockAnswer> {
    const { store, link } = this.#options;
    switch (question.kind) {
      case "summary": {
        const asked = JSON.stringify(question.buckets) + question.database;
        if (asked !== this.#asked) this.changed();
        this.#asked = asked;
        const buckets = summarize(await store.ingestedFiles(link));
        return {
          kind: "summary",
          database: store.databaseId.toHex(),
          free: await store.freeBlocks(link.kme),
          buckets,
        };
      }
      case "files": {
        const wanted = new Set(question.buckets);
        const files = (await store.ingestedFiles(link)).filter(({ tag }) => wanted.has(bucketOf(tag)));
        return { kind: "files", files: files.slice(0, MAX_LISTED_FILES) };
      }
      case "held": {
        const files = await this.#held();
        return { kind: "held", files: files.length > MAX_LISTED_FILES ? undefined : files };
      }
      case "blocks":
        return { kind: "blocks", presence: await store.presenceOf(link, question.ids) };
    }
  }

  /** Blocks that the peer said it has never stored. */
  async missing(ids: readonly KeyIdBytes[]): Promise<void> {
    await this.#options.store.matchBlocks({ link: this.#options.link, unmatched: ids });
    this.changed();
  }

  /**
   * Asks the peer for the blocks at the beginning of the stock, page by page, until it has so many of them.
   *
   * @returns whether blocks were found that the peer does not have, and so other blocks come next now.
   */
  async skipMissing(needed: number): Promise<boolean> {
    let [found, skipped] = [0, 0];
    for (let after: number | undefined = 0; after !== undefined && found < needed;) {
      const page: PageCheck | undefined = await this.#checkPage([BlockState.free], undefined, after);
      if (page === undefined) return skipped > 0;
      found += page.held;
      skipped += page.unmatched;
      after = page.next;
    }
    if (skipped > 0) this.changed();
    return skipped > 0;
  }

  #schedule(delay: number): void {
    if (this.#closed) return;
    if (this.#running !== undefined) {
      if (delay < IDLE_MS) this.#again = true;
      return;
    }
    const due = performance.now() + delay;
    if (due >= this.#due) return;
    clearTimeout(this.#timer);
    this.#due = due;
    this.#timer = setTimeout(() => {
      this.#due = Infinity;
      this.#running = this.#compare().catch((error) => {
        log("delivery").debug("the stock of the link with KME {kme} could not be compared: {reason}", {
          kme: this.#options.link.kme,
          reason: errorMessage(error),
        });
      }).finally(() => {
        this.#running = undefined;
        this.#schedule(this.#again ? SOON_MS : this.#untilNext());
        this.#again = false;
      });
    }, delay);
  }

  async #compare(): Promise<void> {
    const { store, link, peer } = this.#options;
    const ability = await peer.ability();
    if (ability.kind === "unreached") return;
    if (ability.kind === "blocks" || !ability.comparesStock) {
      // It tells nothing: blocks that it did not have are tried again.
      await store.matchBlocks({ link, matchAll: true });
      return this.#report([], []);
    }
    const mine = await store.ingestedFiles(link);
    const database = store.databaseId.toHex();
    const summary = summarize(mine);
    const free = await store.freeBlocks(link.kme);
    const answer = await peer.askStock({ kind: "summary", database, free, buckets: summary });
    if (answer?.kind !== "summary") return;
    await this.#learnFiles(summary, answer.buckets);
    const theirs = this.#theirFiles();
    const suspect = mine.filter(({ tag, blocks }) =>
      this.#theirs.has(bucketOf(tag)) && theirs.get(tag)?.blocks !== blocks
    );
    const suspects = new Set(suspect.map(({ tag }) => tag));
    const changed = JSON.stringify([answer.database, answer.buckets, summary]);
    const unexplained = this.#isUnexplained(free, answer.free);
    if (changed !== this.#checkedWith || unexplained) {
      const unproven = unexplained
        ? await this.#heldDifferently()
        : await this.#unprovenFiles(mine, answer.database);
      for (const tag of unproven) suspects.add(tag);
      await this.#check([BlockState.free], [...suspects]);
      await this.#check([BlockState.unmatched]);
      for (const { tag } of mine) this.#proven.add(tag);
      await store.matchBlocks({ link, peerDatabase: answer.database });
      this.#checkedWith = changed;
    }
    await this.#reportFiles(mine, theirs);
  }

  /** Asks for the files of the buckets that differ. */
  async #learnFiles(mine: readonly BucketSummary[], theirs: readonly BucketSummary[]): Promise<void> {
    const summary = JSON.stringify([mine, theirs]);
    if (summary === this.#theirSummary) return;
    const differing = differingBuckets(mine, theirs);
    const files = new Map<number, StockFile[]>(differing.map((bucket) => [bucket, []]));
    for (const buckets of listable(differing, theirs)) {
      const answer = await this.#options.peer.askStock({ kind: "files", buckets });
      if (answer?.kind !== "files") throw new Error("no list of files");
      for (const file of answer.files) files.get(bucketOf(file.tag))?.push(file);
    }
    this.#theirs = files;
    this.#theirSummary = summary;
  }

  /** Files of the peer in buckets that differ. */
  #theirFiles(): Map<FileTag, StockFile> {
    return new Map([...this.#theirs.values()].flat().map((file) => [file.tag, file]));
  }

  /**
   * Whether the two ends offer different numbers of blocks although nothing is under way: one of them lost blocks, for
   * example by `kme burn`. Asked again only when the numbers change.
   */
  #isUnexplained(mine: number, theirs: number): boolean {
    const numbers = `${mine} ${theirs}`;
    const isStable = numbers === this.#numbers;
    this.#numbers = numbers;
    if (mine === theirs || !isStable || numbers === this.#explained) return false;
    this.#explained = numbers;
    return true;
  }

  /** Files that both ends have ingested, but of which one end may have forgotten what it used. */
  async #unprovenFiles(mine: readonly StockFile[], database: string): Promise<FileTag[]> {
    if (database !== this.#peerDatabase) {
      const known = this.#peerDatabase ?? await this.#options.store.peerDatabase(this.#options.link);
      if (known !== database) {
        this.#isNewPair = true;
        this.#proven.clear();
      }
      this.#peerDatabase = database;
    }
    if (!this.#isNewPair) return [];
    const unproven = mine.filter(({ tag }) => !this.#proven.has(tag));
    if (unproven.reduce((sum, { blocks }) => sum + blocks, 0) <= MAX_ASKED_AT_ONCE) {
      return unproven.map(({ tag }) => tag);
    }
    const different = new Set(await this.#heldDifferently());
    return unproven.flatMap(({ tag }) => different.has(tag) ? [tag] : []);
  }

  /** Files of which the two ends do not hold the same blocks any more; all of them where the peer does not say. */
  async #heldDifferently(): Promise<FileTag[]> {
    const mine = await this.#held();
    if (mine.length === 0) return [];
    const answer = await this.#options.peer.askStock({ kind: "held" });
    if (answer?.kind !== "held") throw new Error("no answer");
    const theirs = new Map((answer.files ?? []).map((file) => [file.tag, file]));
    return mine.filter(({ tag, blocks, hash }) =>
      theirs.get(tag)?.blocks !== blocks || theirs.get(tag)?.hash !== hash
    ).map(({ tag }) => tag);
  }

  async #held(): Promise<HeldFile[]> {
    const { store, link } = this.#options;
    const files = new Map<FileTag, HeldFile>();
    for (let after: number | undefined = 0; after !== undefined;) {
      const page: Awaited<ReturnType<Store["heldPage"]>> = await store.heldPage({
        linkId: link.id,
        after,
        limit: PAGE,
      });
      for (const { tag, blocks, hash } of page.files) {
        const known = files.get(tag);
        files.set(tag, {
          tag,
          blocks: blocks + (known?.blocks ?? 0),
          hash: addHashes(hash, known?.hash ?? 0),
        });
      }
      after = page.next;
    }
    return [...files.values()];
  }

  /** Asks the peer for all blocks in these states, of these files or of any, and changes their states by its answers. */
  async #check(states: readonly number[], tags?: readonly FileTag[]): Promise<void> {
    if (tags?.length === 0) return;
    const selected = tags !== undefined && tags.length <= MAX_TAGS ? tags : undefined;
    for (let after: number | undefined = 0; after !== undefined && !this.#closed;) {
      const page: PageCheck | undefined = await this.#checkPage(states, selected, after);
      if (page === undefined) throw new Error("no answer");
      after = page.next;
    }
  }

  /** @returns `undefined` when the peer does not answer. */
  async #checkPage(
    states: readonly number[],
    tags: readonly FileTag[] | undefined,
    after: number,
  ): Promise<PageCheck | undefined> {
    const { store, link, peer } = this.#options;
    const page = await store.blockPage({ linkId: link.id, states, tags, after, limit: PAGE });
    if (page.ids.length === 0) return { held: 0, unmatched: 0, next: page.next };
    const answer = await peer.askStock({ kind: "blocks", ids: page.ids });
    if (answer?.kind !== "blocks" || answer.presence.length !== page.ids.length) return undefined;
    const [matched, unmatched]: [KeyIdBytes[], KeyIdBytes[]] = [[], []];
    let held = 0;
    page.ids.forEach((id, i) => {
      const isHeld = answer.presence[i] === BlockPresence.held;
      if (isHeld) held++;
      if (isHeld && page.states[i] === BlockState.unmatched) matched.push(id);
      if (!isHeld && page.states[i] === BlockState.free) unmatched.push(id);
    });
    if (matched.length + unmatched.length > 0) await store.matchBlocks({ link, matched, unmatched });
    return { held, unmatched: unmatched.length, next: page.next };
  }

  async #reportFiles(mine: readonly StockFile[], theirs: ReadonlyMap<FileTag, StockFile>): Promise<void> {
    const { store, link } = this.#options;
    const unmatched = await store.unmatchedByFile(link);
    const forgotten = new Set(await store.forgottenFiles(link));
    const own = new Map(mine.map((file) => [file.tag, file]));
    const there: UnmatchedFile[] = [...theirs.values()].flatMap(({ tag, name, blocks }) => {
      if (forgotten.has(tag)) return [];
      const missing = blocks - (own.get(tag)?.blocks ?? 0);
      return missing > 0 ? [{ name, here: 0, there: missing }] : [];
    });
    const here = unmatched.map(({ tag, blocks }): UnmatchedFile => ({
      name: tag === DEVICE_TAG ? DEVICE_KEYS_NAME : own.get(tag)?.name ?? "(an earlier file)",
      here: blocks,
      there: 0,
    }));
    this.#report(here, there, new Date());
  }

  #report(here: readonly UnmatchedFile[], there: readonly UnmatchedFile[], comparedAt?: Date): void {
    const byName = new Map<string, UnmatchedFile>();
    for (const { name, here: a, there: b } of [...here, ...there]) {
      const known = byName.get(name);
      byName.set(name, { name, here: a + (known?.here ?? 0), there: b + (known?.there ?? 0) });
    }
    const now = { since: new Date(), begin: performance.now() };
    this.#differing = new Map([...byName.keys()].map((name) => [name, this.#differing.get(name) ?? now]));
    const files = [...byName.values()]
      .filter(({ name }) => now.begin - this.#differing.get(name)!.begin >= LASTING_MS)
      .sort((a, b) => b.here + b.there - a.here - a.there);
    const times = files.map(({ name }) => this.#differing.get(name)!.since.getTime());
    this.#state = {
      link: this.#options.link.kme,
      blocks: here.reduce((sum, file) => sum + file.here, 0),
      comparedAt,
      since: times.length === 0 ? undefined : new Date(times.reduce((a, b) => Math.min(a, b))),
      files: files.slice(0, 100),
    };
    const told = this.#told;
    this.#told = new Set(files.map(({ name }) => name));
    const isNew = ({ name }: UnmatchedFile) => !told.has(name);
    if (files.some(isNew)) {
      const newFirst = [...files.filter(isNew), ...files.filter((file) => !isNew(file))].slice(0, 100);
      this.#options.onChange?.({ ...this.#state, files: newFirst });
    } else if (files.length === 0 && told.size > 0) this.#options.onChange?.(this.#state);
  }

  /** Milliseconds until the next comparison when nothing happens: sooner when a file has to be told by then. */
  #untilNext(): number {
    const idle = this.#options.idleMs ?? IDLE_MS;
    const now = performance.now();
    return [...this.#differing.values()].reduce((least, { begin }) => {
      const left = begin + LASTING_MS - now;
      return left > 0 ? Math.min(least, left) : least;
    }, idle);
  }
}

interface PageCheck {
  /** Blocks that the peer has. */
  readonly held: number;
  /** Free blocks that it does not have. */
  readonly unmatched: number;
  /** Where the next page begins; absent after the last one. */
  readonly next?: number;
}
