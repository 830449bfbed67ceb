/** The last events, as many as fit. */
import type { KmeEvent } from "../events/events.ts";

/** As `/messages` tells it. */
export interface Message {
  readonly message: string;
  /** ISO 8601 in UTC. */
  readonly datetime: string;
}

export interface Messages {
  /** How many events came before the first of these. */
  readonly from: number;
  readonly messages: Message[];
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

  /** The newest `limit` of those that came after the first `after` ones, oldest first, and the number of the first. */
  since(after: number, limit: number = this.#size): Messages {
    const from = Math.max(after, this.#count - Math.min(limit, this.#size), 0);
    const messages = Array.from({ length: this.#count - from }, (_, i): Message => {
      const { message, at } = this.#events[(from + i) % this.#size]!;
      return { message, datetime: at.toISOString() };
    });
    return { from, messages };
  }
}
