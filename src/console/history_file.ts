/** Keeps the history of the console across a restart, in a small file beside a database file. It holds no secrets. */
import { z } from "zod";
import type { Config } from "../config/config.ts";
import type { Incidents } from "../events/incidents.ts";
import { log } from "../log.ts";
import { errorMessage } from "../domain/text.ts";
import type { Facts } from "./facts.ts";
import type { History } from "./history.ts";

const buckets = z.array(z.tuple([z.int().nonnegative(), z.int().nonnegative()]));
const point = z.object({
  at: z.number(),
  seconds: z.number().nonnegative(),
  free: z.record(z.string(), z.number().nullable()),
  delivered: z.number(),
  collected: z.number(),
  ingested: z.number(),
  burnt: z.number(),
  refused: z.record(z.string(), z.number()),
  durations: z.object({ enc_keys: buckets, dec_keys: buckets, activation: buckets }),
});

const fileSchema = z.object({
  version: z.literal(1),
  kme: z.string(),
  fine: z.array(point),
  coarse: z.array(point),
  incidents: z.array(z.object({
    kind: z.enum([
      "refused request",
      "refused handshake",
      "neighbour",
      "stock",
      "key files",
      "device",
      "database",
      "audit",
      "reload",
      "program",
    ]),
    severity: z.enum(["info", "warning", "error"]),
    message: z.string(),
    first: z.coerce.date(),
    last: z.coerce.date(),
    count: z.int().positive(),
  })),
  facts: z.object({
    problems: z.array(z.tuple([z.string(), z.string()])),
    used: z.array(z.string()),
    seen: z.array(z.tuple([z.string(), z.number()])),
  }),
});

export interface HistoryParts {
  /** Id of this KME: a file of another one is not read. */
  readonly kme: string;
  readonly history: History;
  readonly incidents: Incidents;
  readonly facts: Facts;
}

/** Where the history is kept; undefined without a database file. */
export function historyPath({ thisKme: { database } }: Pick<Config, "thisKme">): string | undefined {
  return database.kind === "sqlite" ? `${database.path}.history` : undefined;
}

export class HistoryFile {
  readonly #path: string;
  readonly #parts: HistoryParts;
  #warned = false;

  constructor(path: string, parts: HistoryParts) {
    this.#path = path;
    this.#parts = parts;
  }

  /** Never throws: a file that cannot be read is logged and later replaced. */
  load(): void {
    const { kme, history, incidents, facts } = this.#parts;
    let text: string;
    try {
      text = Deno.readTextFileSync(this.#path);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) this.#warn("read", error);
      return;
    }
    try {
      const saved = fileSchema.parse(JSON.parse(text));
      if (saved.kme !== kme) return;
      history.restore(saved);
      incidents.restore(saved.incidents);
      facts.restore(saved.facts);
    } catch {
      this.#warn("read", new Error("it is not a history of this version"));
    }
  }

  /** Never throws: a file that cannot be written is logged once. */
  async save(): Promise<void> {
    const { kme, history, incidents, facts } = this.#parts;
    const saved = {
      version: 1,
      kme,
      ...history.kept,
      incidents: incidents.since().map(({ id: _id, number: _number, ...incident }) => incident),
      facts: facts.kept,
    };
    const temporary = `${this.#path}.new`;
    try {
      await Deno.writeTextFile(temporary, JSON.stringify(saved), { mode: 0o600 });
      await Deno.rename(temporary, this.#path);
      this.#warned = false;
    } catch (error) {
      this.#warn("written", error);
    }
  }

  #warn(what: "read" | "written", error: unknown): void {
    if (this.#warned) return;
    this.#warned = true;
    log("console").warn("the history of the console, {path}, cannot be {what}: {reason}", {
      path: this.#path,
      what,
      reason: errorMessage(error),
    });
  }
}
