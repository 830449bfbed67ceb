/**
 * Reads of this process that may be repeated and have no record in the audit log: not yet, or never, because it could not be
 * written. The answer to such a read does not leave, so a repetition may be the first one that does.
 */
import type { KeyIdBytes } from "../domain/block.ts";
import { mapKey } from "../domain/bytes.ts";
import type { SaeId } from "../domain/ids.ts";

export class UnrecordedReads {
  readonly #repeatMs: number;
  readonly #now: () => number;
  /** When it was added; the oldest is first. */
  readonly #since = new Map<string, number>();

  /**
   * @param repeatMs for how long a read may be repeated; 0: nothing is remembered.
   * @param now milliseconds.
   */
  constructor(repeatMs: number, now: () => number) {
    this.#repeatMs = repeatMs;
    this.#now = now;
  }

  add(slave: SaeId, ids: readonly KeyIdBytes[]): void {
    if (this.#repeatMs === 0) return;
    const now = this.#now();
    for (const [read, since] of this.#since) {
      if (since + this.#repeatMs > now) break;
      this.#since.delete(read);
    }
    for (const id of ids) this.#since.set(nameOf(slave, id), now);
  }

  /** These have a record now. */
  remove(slave: SaeId, ids: readonly KeyIdBytes[]): void {
    if (this.#since.size === 0) return;
    for (const id of ids) this.#since.delete(nameOf(slave, id));
  }

  has(slave: SaeId, id: KeyIdBytes): boolean {
    return this.#since.has(nameOf(slave, id));
  }
}

function nameOf(slave: SaeId, id: KeyIdBytes): string {
  return `${mapKey(id)} ${slave}`;
}
