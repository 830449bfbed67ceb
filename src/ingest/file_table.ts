/** What one process knows of the key files of a directory, and which of them are to be looked at or read when. */
import { compareNames, type FileState } from "./key_file.ts";

/** What this process knows of a file; the store knows the rest. */
export interface KnownFile {
  readonly name: string;
  /** As last seen. */
  state?: FileState;
  /** When it was first seen like that, in milliseconds of the monotonic clock. */
  since: number;
  /** Its state when nothing was left to be done with it: ingested, or refused. */
  done?: FileState;
  /** Of what was read of it then. */
  digest?: Uint8Array;
  /** The system told that its writer has closed it. */
  complete: boolean;
  /** To be deleted as soon as its writer is done with it. */
  deletable?: boolean;
  /** What was last warned about, so that it is said once. */
  warned?: string;
  /** Why it is refused or cannot be read, in words. */
  refused?: string;
  /** Blocks and milliseconds so far, over interruptions. */
  tally: { stored: number; known: number; ms: number };
}

export class FileTable {
  readonly #known = new Map<string, KnownFile>();
  /** Names to look at. */
  readonly #hinted = new Set<string>();
  /** Names to look at later, by when. */
  readonly #resting = new Map<string, number>();
  /** Names of files that are unchanged for long enough and wait for their turn. */
  readonly #ready = new Set<string>();
  /** The same in reverse order of their names, so that the next one is at the end. */
  #readyInOrder: string[] | undefined;
  /** Names found at the start that are not dealt with yet; `undefined` before the first scan. */
  #atStart: Set<string> | undefined;
  /** The same until they are ready or do not hold up the start: the order of all of them is known then. */
  readonly #unordered = new Set<string>();

  get names(): string[] {
    return [...this.#known.keys()];
  }

  /** Files that are refused or cannot be read. */
  get refused(): KnownFile[] {
    return [...this.#known.values()].filter(({ refused }) => refused !== undefined);
  }

  /** Whether everything found at the start was dealt with. */
  get isStarted(): boolean {
    return this.#atStart?.size === 0;
  }

  /** Whether a file found at the start may still have to be read before those that are ready. */
  get isOrderOpen(): boolean {
    return this.#unordered.size > 0;
  }

  get hasHints(): boolean {
    return this.#hinted.size > 0;
  }

  /** When the next file is to be looked at; Infinity when there is none. */
  get nextLook(): number {
    let next = Infinity;
    for (const due of this.#resting.values()) next = Math.min(next, due);
    return next;
  }

  remember(name: string): KnownFile {
    let known = this.#known.get(name);
    if (known === undefined) {
      known = { name, since: 0, complete: false, tally: { stored: 0, known: 0, ms: 0 } };
      this.#known.set(name, known);
    }
    return known;
  }

  knows(name: string): boolean {
    return this.#known.has(name);
  }

  forget(name: string): void {
    this.#known.delete(name);
    this.#resting.delete(name);
    this.notReady(name);
    this.startedWith(name);
  }

  hint(name: string): void {
    this.#hinted.add(name);
  }

  /** Whether the file is waiting until it is unchanged for long enough, and events need not be told. */
  isResting(name: string): boolean {
    return this.#resting.has(name) && !this.#known.get(name)?.deletable;
  }

  /** To be looked at later; `due` in milliseconds of the monotonic clock. */
  rest(name: string, due: number): void {
    this.notReady(name);
    this.#resting.set(name, due);
  }

  /** Takes the names to be looked at now. */
  takeHints(now: number): string[] {
    for (const [name, due] of this.#resting) {
      if (now < due) continue;
      this.#resting.delete(name);
      this.#hinted.add(name);
    }
    const hinted = [...this.#hinted];
    this.#hinted.clear();
    for (const name of hinted) this.#resting.delete(name);
    return hinted;
  }

  ready(name: string): void {
    if (!this.#ready.has(name)) this.#readyInOrder = undefined;
    this.#ready.add(name);
    this.#unordered.delete(name);
  }

  notReady(name: string): void {
    if (!this.#ready.delete(name)) return;
    if (this.#readyInOrder?.at(-1) === name) this.#readyInOrder.pop();
    else this.#readyInOrder = undefined;
  }

  /** The next files to be read, in order; at most `count`. */
  nextReady(count: number): KnownFile[] {
    this.#readyInOrder ??= [...this.#ready].sort(compareNames).reverse();
    return this.#readyInOrder.slice(-count).reverse().map((name) => this.remember(name));
  }

  /** What was found by the first scan. */
  begin(names: Iterable<string>): void {
    if (this.#atStart !== undefined) return;
    this.#atStart = new Set(names);
    for (const name of this.#atStart) this.#unordered.add(name);
  }

  /** The file does not hold up the start any more. */
  startedWith(name: string): void {
    this.#atStart?.delete(name);
    this.#unordered.delete(name);
  }

  /** Nothing holds up the start any more. */
  startedWithAll(): void {
    this.#atStart?.clear();
    this.#unordered.clear();
  }
}
