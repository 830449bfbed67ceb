/** Limits the records that a client can cause by refused requests, so that none can fill the disk of the audit log. */
import type { AuditRecord } from "./audit_record.ts";

type Refusal = Extract<AuditRecord, { kind: "refusal" }>;

/** Records of one client in a period. */
const MAX_RECORDS = 20;

const PERIOD_MS = 1000;

/** Clients that are counted apart; more share one count. */
const MAX_CLIENTS = 1000;

interface Period {
  records: number;
  /** What was left out. */
  more: number;
  last?: Refusal;
}

export class RefusalLimit {
  readonly #note: (record: Refusal) => void;
  #periods = new Map<string, Period>();
  #timer?: ReturnType<typeof setTimeout>;

  constructor(note: (record: Refusal) => void) {
    this.#note = note;
  }

  /** @param client what identifies it. */
  add(client: string, record: Refusal): void {
    const name = this.#periods.has(client) || this.#periods.size < MAX_CLIENTS ? client : "others";
    const period = this.#periods.getOrInsertComputed(name, () => ({ records: 0, more: 0 }));
    this.#timer ??= setTimeout(() => this.#end(), PERIOD_MS);
    if (period.records < MAX_RECORDS) {
      period.records++;
      this.#note(record);
    } else {
      period.more++;
      period.last = record;
    }
  }

  /** Records what was left out. */
  close(): void {
    clearTimeout(this.#timer);
    this.#end();
  }

  #end(): void {
    this.#timer = undefined;
    const periods = this.#periods;
    this.#periods = new Map();
    for (const { more, last } of periods.values()) {
      if (last !== undefined) this.#note({ ...last, more: more - 1 });
    }
  }
}
