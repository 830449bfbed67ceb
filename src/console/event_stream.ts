/** Server-sent events to many browsers, none of which can block the program. */

/** Bytes that wait for one browser before it is disconnected as too slow; it reconnects by itself. */
const MAX_BACKLOG = 1024 * 1024;

/** Ends the stream of a client that is too slow. */
export class TooSlow extends Error {
  override name = "TooSlow";
}

const encoder = new TextEncoder();

/** One event in the form of text/event-stream. */
export function formatEvent(name: string, data: unknown): Uint8Array {
  // JSON has no line breaks.
  return encoder.encode(`event: ${name}\ndata: ${JSON.stringify(data)}\n\n`);
}

export class EventStreams {
  readonly #clients = new Set<ReadableStreamDefaultController<Uint8Array>>();
  readonly #maxClients: number;
  #closed = false;

  constructor(maxClients: number) {
    this.#maxClients = maxClients;
  }

  get clients(): number {
    return this.#clients.size;
  }

  /**
   * A body for a new browser, which starts with `first`.
   *
   * @returns undefined if there are too many already, or after {@linkcode close}.
   */
  open(first: Uint8Array): ReadableStream<Uint8Array> | undefined {
    if (this.#closed || this.#clients.size >= this.#maxClients) return undefined;
    let client: ReadableStreamDefaultController<Uint8Array>;
    return new ReadableStream<Uint8Array>({
      start: (controller) => {
        client = controller;
        this.#clients.add(client);
        client.enqueue(first);
      },
      cancel: () => {
        this.#clients.delete(client);
      },
    }, new ByteLengthQueuingStrategy({ highWaterMark: 64 * 1024 }));
  }

  /** Sends to all; disconnects those that do not read what they get. */
  send(event: Uint8Array): void {
    for (const client of this.#clients) {
      if ((client.desiredSize ?? 0) < -MAX_BACKLOG) {
        this.#clients.delete(client);
        client.error(new TooSlow("the client takes its events too slowly"));
      } else client.enqueue(event);
    }
  }

  /** Ends all streams at once, and accepts no more. */
  close(): void {
    this.#closed = true;
    for (const client of this.#clients) client.close();
    this.#clients.clear();
  }
}
