/** Failures, and their ends, for the operator. Each is also a line in the log. */

export type IncidentKind =
  | "refused request"
  | "refused handshake"
  | "neighbour"
  | "stock"
  | "key files"
  | "device"
  | "database"
  | "audit"
  | "reload"
  | "program";

export type Severity = "info" | "warning" | "error";

export interface Incident {
  /** Stays the same in all reports of one incident. */
  readonly id: number;
  /** Grows with each report; a repeated incident gets a new number. */
  readonly number: number;
  readonly kind: IncidentKind;
  readonly severity: Severity;
  /** One line, without a key's bits. */
  readonly message: string;
  readonly first: Date;
  readonly last: Date;
  /** How often it was reported. */
  readonly count: number;
}

export interface IncidentReport {
  readonly kind: IncidentKind;
  readonly severity: Severity;
  readonly message: string;
  /** Reports of one kind with the same value are counted as one incident; the message by default. */
  readonly same?: string;
}

/** Incidents that are kept. */
const MAX_KEPT = 200;

export class Incidents {
  /** The most recent one last. */
  readonly #kept = new Map<string, Incident>();
  #number = 0;

  /** Number of the latest report. */
  get number(): number {
    return this.#number;
  }

  report({ kind, severity, message, same = message }: IncidentReport): void {
    const now = new Date();
    const name = `${kind} ${same}`;
    const known = this.#kept.get(name);
    this.#kept.delete(name);
    const number = ++this.#number;
    this.#kept.set(name, {
      id: known?.id ?? number,
      number,
      kind,
      severity,
      message,
      first: known?.first ?? now,
      last: now,
      count: (known?.count ?? 0) + 1,
    });
    if (this.#kept.size > MAX_KEPT) this.#kept.delete(this.#kept.keys().next().value!);
  }

  /** Those that were reported after `number`, oldest first. */
  since(number = 0): Incident[] {
    return [...this.#kept.values()].filter((incident) => incident.number > number);
  }

  /** Adds the incidents of an earlier process; called before the first report. */
  restore(incidents: readonly Omit<Incident, "id" | "number">[]): void {
    for (const incident of incidents.slice(-MAX_KEPT)) {
      const number = ++this.#number;
      this.#kept.set(`${incident.kind} ${incident.message}`, { ...incident, id: number, number });
    }
  }
}
