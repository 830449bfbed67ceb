/** The time by which keys expire and leases end. */
import { type Kysely, sql } from "kysely";
import type { StoreDialect } from "./dialects/dialect.ts";
import type { Schema } from "./table_schema.ts";

/**
 * Milliseconds since 1970. Begins with the time of the database and goes on with the monotonic clock: a step of the system clock
 * changes nothing while the program runs.
 */
export class StoreClock {
  #ahead: number;

  constructor(start: number) {
    this.#ahead = start - performance.now();
  }

  now(): number {
    return Math.floor(performance.now() + this.#ahead);
  }

  /** Follows another process on the same database whose clock runs a little faster. */
  advanceTo(time: number): void {
    this.#ahead = Math.max(this.#ahead, time - performance.now());
  }
}

/** What is needed of a dialect: the system clock of the database's host. Absent: that of this host. */
type WallClock = Pick<StoreDialect, "wallClock">;

export interface DatabaseTime {
  /** Milliseconds since 1970. */
  readonly now: number;
  /** Milliseconds since the time was last recorded; negative when the clock of the host was set back since, and then not counted. */
  readonly passed: number;
}

/** The time of the database now: the time that was last recorded in it, and what has passed since by the clock of its host. */
export async function databaseTime(db: Kysely<Schema>, dialect: WallClock): Promise<DatabaseTime> {
  const wall = await wallTime(db, dialect);
  const recorded = await db.selectFrom("clock").select(["time", "wall"]).executeTakeFirst();
  if (recorded === undefined) return { now: wall, passed: 0 };
  const passed = wall - recorded.wall;
  return { now: recorded.time + Math.max(0, passed), passed };
}

/** Records the time, never an earlier one than before; returns what is recorded. */
export async function recordTime(db: Kysely<Schema>, dialect: StoreDialect, now: number): Promise<number> {
  const wall = await wallTime(db, dialect);
  await dialect.insertIgnoring(db.insertInto("clock").values({ one: 1, time: now, wall })).execute();
  const recorded = await dialect.forUpdate(db.selectFrom("clock").select("time").where("one", "=", 1))
    .executeTakeFirstOrThrow();
  const time = Math.max(now, recorded.time);
  await db.updateTable("clock").set({ time, wall }).where("one", "=", 1).execute();
  return time;
}

async function wallTime(db: Kysely<Schema>, { wallClock }: WallClock): Promise<number> {
  if (wallClock === undefined) return Date.now();
  const { rows } = await sql<{ ms: number }>`select ${wallClock} as ms`.execute(db);
  return Math.floor(Number(rows[0]!.ms));
}
