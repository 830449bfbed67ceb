/** A room for tests of ingestion: real directories, a store in memory, and events that can be awaited. */
import { configure, type LogRecord, reset } from "@logtape/logtape";
import { join } from "node:path";
import type { AddedBlocks, BlockBatch, BlockStore, FileProgress } from "../../src/store/block_store.ts";
import { type Ingestion, startIngestion } from "../../src/ingest/ingestion.ts";
import type { IngestedFile, IngestionOptions, RefusedFile } from "../../src/ingest/ingestion_options.ts";
import { blockKeyId, formatKeyId } from "../../src/domain/block.ts";

/** A store that remembers every key_ID for good, as the real one does. */
export class MemoryStore implements BlockStore {
  /** Every key_ID ever stored, in order, with its link. */
  readonly stored: string[] = [];
  readonly batches: BlockBatch[] = [];
  /** Another one means another database. */
  databaseId = Uint8Array.from({ length: 16 }, (_, i) => i);
  requests = 0;
  blocking = false;
  readonly #ever = new Set<string>();
  readonly #free = new Map<string, number>();
  readonly #progress = new Map<string, FileProgress>();
  /** Set to make every call fail. */
  failure: Error | undefined;
  /** Called before an addBlocks does anything, and awaited. */
  beforeAdd: (batch: BlockBatch) => unknown = () => {};
  /** Called at every fileProgress, and awaited. */
  beforeProgress: (name: string) => unknown = () => {};

  async addBlocks(batch: BlockBatch): Promise<AddedBlocks> {
    await this.beforeAdd(batch);
    if (this.failure) throw this.failure;
    this.batches.push(batch);
    let [stored, known] = [0, 0];
    for (const block of batch.blocks) {
      const id = formatKeyId(block.id);
      if (this.#ever.has(id)) known++;
      else if (this.free(batch.link) >= batch.maxFree) break;
      else {
        this.#ever.add(id);
        this.stored.push(id);
        this.#free.set(batch.link, this.free(batch.link) + 1);
        stored++;
      }
    }
    const taken = stored + known;
    const { file } = batch;
    this.#progress.set(`${batch.link}/${file.name}`, { ...file, offset: file.offset + taken * 32 });
    return { stored, known, taken };
  }

  async fileProgress(link: string, names: readonly string[]): Promise<Map<string, FileProgress>> {
    for (const name of names) await this.beforeProgress(name);
    if (this.failure) throw this.failure;
    return new Map(names.flatMap((name) => {
      const progress = this.#progress.get(`${link}/${name}`);
      return progress === undefined ? [] : [[name, progress] as const];
    }));
  }

  freeBlocks(link: string): Promise<number> {
    return this.failure ? Promise.reject(this.failure) : Promise.resolve(this.free(link));
  }

  free(link: string): number {
    return this.#free.get(link) ?? 0;
  }

  /** Delivers keys, so that room is made. */
  deliver(link: string, count: number): void {
    this.#free.set(link, this.free(link) - count);
  }
}

/** Things that come one after the other and can be awaited. */
class Stream<T> {
  readonly all: T[] = [];
  readonly #waiting: { matches: (item: T) => boolean; resolve: (item: T) => void }[] = [];
  readonly #seen = new Set<T>();

  push(item: T): void {
    this.all.push(item);
    const at = this.#waiting.findIndex(({ matches }) => matches(item));
    if (at < 0) return;
    this.#seen.add(item);
    this.#waiting.splice(at, 1)[0]!.resolve(item);
  }

  /** The first that matches and was not given out yet, when it has come. */
  next(matches: (item: T) => boolean = () => true): Promise<T> {
    const item = this.all.find((item) => !this.#seen.has(item) && matches(item));
    if (item !== undefined) {
      this.#seen.add(item);
      return Promise.resolve(item);
    }
    return new Promise((resolve, reject) => {
      // Only so that a test whose event never comes is red instead of stuck.
      const timer = setTimeout(() => reject(new Error("the awaited event never came")), 30_000);
      const arrived = (item: T) => {
        clearTimeout(timer);
        resolve(item);
      };
      this.#waiting.push({ matches, resolve: arrived });
    });
  }
}

/** One test's directory, store and log. */
export class Room {
  /** The watched directory. */
  readonly directory: string;
  /** A place outside it on the same file system. */
  readonly outside: string;
  readonly store = new MemoryStore();
  readonly ingested = new Stream<IngestedFile>();
  readonly refused = new Stream<RefusedFile>();
  readonly lines = new Stream<{ level: string; text: string }>();
  #running: Ingestion[] = [];

  constructor(readonly root: string) {
    this.directory = join(root, "keys");
    this.outside = join(root, "outside");
    Deno.mkdirSync(this.directory);
    Deno.mkdirSync(this.outside);
  }

  /** Starts ingestion of link "2"; nothing but events wakes it unless `rescanMs` is given. */
  start(options: Partial<IngestionOptions> = {}): Ingestion {
    const ingestion = startIngestion({
      kme: "1",
      directories: [{ link: "2", directory: this.directory }],
      store: this.store,
      maxKeyCount: 1000,
      deleteAfterRead: false,
      restMs: 20,
      quietMs: 0,
      rescanMs: 3_600_000,
      retryMs: 1,
      onIngested: (file) => this.ingested.push(file),
      onRefused: (file) => this.refused.push(file),
      ...options,
    });
    this.#running.push(ingestion);
    return ingestion;
  }

  async stop(): Promise<void> {
    await Promise.all(this.#running.splice(0).map((ingestion) => ingestion.close()));
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  /** Writes a key file with an old mtime outside and renames it in: at rest at first sight while that is watched. */
  drop(name: string, bytes: Uint8Array): void {
    const aside = join(this.outside, name);
    Deno.writeFileSync(aside, bytes);
    const old = new Date(Date.now() - 60_000);
    Deno.utimeSync(aside, old, old);
    Deno.renameSync(aside, this.path(name));
  }

  /** The next line of the log with this text. */
  line(text: string): Promise<{ level: string; text: string }> {
    return this.lines.next((line) => line.text.includes(text));
  }

  /** Lines of the level "warning" or above so far. */
  get complaints(): string[] {
    return this.lines.all.filter(({ level }) => level === "warning" || level === "error").map(({ text }) =>
      text
    );
  }
}

function textOf(record: LogRecord): string {
  return record.message.map(String).join("");
}

/** A test with a room of its own and every sanitizer on. */
export function roomTest(name: string, body: (room: Room) => Promise<void>): void {
  Deno.test({
    name,
    sanitizeResources: true,
    sanitizeOps: true,
    async fn() {
      const root = Deno.makeTempDirSync({ prefix: "kme-ingest-" });
      const room = new Room(root);
      await configure({
        sinks: { room: (record) => room.lines.push({ level: record.level, text: textOf(record) }) },
        loggers: [
          { category: "kme", sinks: ["room"], lowestLevel: "debug" },
          { category: ["logtape", "meta"], lowestLevel: "error" },
        ],
        reset: true,
      });
      try {
        await body(room);
      } finally {
        room.store.failure = undefined;
        await room.stop();
        await reset();
        Deno.removeSync(root, { recursive: true });
      }
    },
  });
}

/** Random test key of so many bytes. */
export function testKey(bytes: number): Uint8Array {
  return crypto.getRandomValues(new Uint8Array(bytes));
}

/** key_IDs of the whole blocks of key files, one after the other. */
export function idsOf(...files: Uint8Array[]): string[] {
  return files.flatMap((bytes) =>
    Array.from(
      { length: Math.floor(bytes.length / 32) },
      (_, i) => formatKeyId(blockKeyId(bytes.subarray(i * 32, i * 32 + 32))),
    )
  );
}
