/** Key events on the console and in the log: which SAE requested or fetched which key. No event holds a key's bits. */
import { InfoLines } from "../log.ts";
import type { KmeId, SaeId } from "../domain/ids.ts";

/** The wording is that of `qkd_kme_server`, because tools of its users parse it. */
export const EventText = {
  requested: (origin: SaeId, target: SaeId) => `SAE ${origin} requested a key to communicate with ${target}`,
  activating: (target: SaeId, kme: KmeId) =>
    `As SAE ${target} belongs to KME ${kme}, activating it through inter KMEs network`,
  activated: (keyId: string, origin: SaeId, target: SaeId) =>
    `Key ${keyId} activated between SAEs ${origin} and ${target}`,
  collected: (slave: SaeId, keyId: string, master: SaeId) =>
    `SAE ${slave} requested key ${keyId} (from ${master})`,
} as const;

/** What an event belongs to: events of one key are shown together. */
export interface About {
  /** Number of the Get key request, unique within the process. */
  readonly request?: number;
  readonly keyId?: string;
}

/** What has happened, without the KME's nickname and the time. */
export interface NewEvent extends About {
  readonly text: string;
}

export interface KmeEvent extends About {
  /** Begins with the KME's nickname. */
  readonly message: string;
  /** Milliseconds since 1970. */
  readonly at: number;
}

export type EventListener = (event: KmeEvent) => void;

/** Sends each event to the log and to all listeners. */
export class Events {
  readonly #prefix: string;
  readonly #listeners = new Set<EventListener>();
  readonly #log = new InfoLines("event");

  constructor(nickname: string) {
    this.#prefix = `[${nickname}] `;
  }

  /** @param happened makes the event. Called only if the log or a listener needs it: a request for many keys has many events. */
  publish(happened: () => NewEvent): void {
    if (this.#listeners.size === 0 && !this.#log.enabled) return;
    const { text, request, keyId } = happened();
    const message = this.#prefix + text;
    const at = Date.now();
    this.#log.write(message, at);
    if (this.#listeners.size === 0) return;
    const event = { message, at, request, keyId };
    for (const listener of this.#listeners) listener(event);
  }

  /** @returns a function that ends the subscription. */
  subscribe(listener: EventListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
