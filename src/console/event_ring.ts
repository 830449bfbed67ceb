/** The latest key events, as many as fit. */
import { timestamp } from "../domain/time.ts";
import type { KmeEvent } from "../events/events.ts";

/** An item of `/messages`. */
export interface Message {
  readonly message: string;
  /** ISO 8601 in UTC. */
  readonly datetime: string;
}

/** What the page gets: with what the event belongs to. */
export interface DetailedMessage extends Message {
  /** Number of the Get key request. */
  readonly request?: number;
  readonly keyId?: string;
}

export interface Messages {
  /** Number of events before the first of these. */
  readonly from: number;
  readonly messages: DetailedMessage[];
}

export class EventRing {
  readonly #events: KmeEvent[] = [];
  readonly #size: number;
  #count = 0;

  constructor(size: number) {
    this.#size = size;
  }

  /** Events ever added. */
  get count(): number {
    return this.#count;
  }

  add(event: KmeEvent): void {
    this.#events[this.#count++ % this.#size] = event;
  }

  /** The newest `limit` of those after the first `after` ones, oldest first, and the number of the first. */
  since(after: number, limit: number = this.#size): Messages {
    const from = Math.max(after, this.#count - Math.min(limit, this.#size), 0);
    const messages = Array.from({ length: this.#count - from }, (_, i): DetailedMessage => {
      const { message, at, request, keyId } = this.#events[(from + i) % this.#size]!;
      return { message, datetime: timestamp(at), request, keyId };
    });
    return { from, messages };
  }
}
