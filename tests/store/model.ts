/**
 * A model of the ledger, small enough to be seen to be right, and the operations that drive it and a store side by side.
 * After every step the store's answer must be one that the model allows.
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import type { Block } from "../../src/domain/block.ts";
import type { Store } from "../../src/store/store.ts";
import { composeBits, newKeyIds } from "../../src/domain/key.ts";
import { freshBlocks, freshId, hex, OWN, PEER, TEST_DIGEST } from "./store_fixture.ts";

type Phase = "open" | "unresolved" | "refused" | "absent";

interface ModelReservation {
  readonly id: Uint8Array;
  phase: Phase;
  since: number;
  /** Blocks by id. */
  readonly blocks: Set<string>;
}

interface ModelKey {
  readonly id: string;
  readonly master: string;
  readonly bits: string;
  /** Absent value: not read. */
  readonly slaves: Map<string, Read | undefined>;
  readonly expiresAt: number;
  readonly transaction?: string;
  /** Blocks that come back when it is taken back. */
  readonly composition: readonly string[];
  /** False where no slave reads it here. */
  readonly readable: boolean;
  /** Whether its bits are gone although it is still there. */
  erased: boolean;
}

/** The first time that a slave read a key. */
interface Read {
  readonly at: number;
  /** Absent: it may not read the key again. */
  readonly certificate?: number;
}

export interface ModelBlock extends Block {
  readonly link: string;
  state: "free" | "reserved" | "key" | "gone";
}

/** Keys that are one block under its digest, or under a key_ID of their own; of several blocks; under a pad. */
const ACTIVATION_KINDS = ["blocks", "single", "composed", "padded"] as const;
type ActivationKind = typeof ACTIVATION_KINDS[number];

const SAES = ["12", "13", "12 "] as const;
const LIFETIME = 1000;
/** Milliseconds for which an answer may be repeated. */
const REPEAT = 400;

export class Model {
  now = 1_000_000_000_000;
  readonly store: Store;
  readonly blocks = new Map<string, ModelBlock>();
  readonly reservations: ModelReservation[] = [];
  readonly keys = new Map<string, ModelKey>();
  /** Keys whose bits are kept after the last read, with its time; also those that have expired since. */
  readonly kept = new Map<string, number>();
  readonly voided = new Map<string, boolean>();
  readonly transactions: { id: Uint8Array; blocks: string[] }[] = [];
  /** Blocks of keys that were delivered, by the bits: no two keys share one. */
  readonly used = new Set<string>();
  steps = 0;

  constructor(open: (now: () => number) => Store) {
    this.store = open(() => this.now);
  }

  of(link: string, state: ModelBlock["state"]): ModelBlock[] {
    return [...this.blocks.values()].filter((block) => block.link === link && block.state === state);
  }

  block(id: string): ModelBlock {
    return this.blocks.get(id)!;
  }

  readonly file = (name: string) => ({ name, size: 0, digest: TEST_DIGEST, offset: 0 });

  async add(link: string, count: number, known: boolean): Promise<void> {
    const blocks = freshBlocks(count);
    const old = known ? [...this.blocks.values()].slice(0, 3) : [];
    const added = await this.store.addBlocks({
      link,
      blocks: [...old, ...blocks],
      maxFree: 1_000_000,
      file: this.file("f"),
    });
    assert.deepEqual(added, { stored: count, known: old.length, taken: count + old.length });
    for (const block of blocks) this.blocks.set(hex(block.id), { ...block, link, state: "free" });
  }

  async deliver(number: number, size: number, slaves: readonly string[]): Promise<void> {
    const perKey = Math.ceil(size / 256);
    const free = this.of(OWN.text, "free");
    const keys = await this.store.deliver({
      link: this.store.link(OWN.text)!,
      ids: newKeyIds(number),
      size,
      origin: OWN.text,
      master: "11",
      slaves,
      expiresAt: this.now + LIFETIME,
    });
    if (keys === undefined) {
      return assert.ok(free.length < number * perKey, "refused though there were enough");
    }
    assert.ok(free.length >= number * perKey);
    assert.equal(keys.length, number);
    for (const key of keys) {
      // Which blocks it is made of shows in its bits.
      const parts: string[] = [];
      for (let offset = 0; offset < key.bits.length; offset += 32) {
        const piece = hex(key.bits.subarray(offset, offset + 32));
        const block = free.find((block) => hex(block.bits).startsWith(piece) && block.state === "free");
        assert.ok(block !== undefined, "a key of blocks that were not free");
        block.state = "key";
        parts.push(hex(block.id));
      }
      this.#record(key.id, key.bits, { master: "11", slaves, parts });
    }
  }

  #record(
    id: Uint8Array,
    bits: Uint8Array,
    key: {
      master: string;
      slaves: readonly string[];
      parts: readonly string[];
      transaction?: Uint8Array;
      composes?: boolean;
      readable?: boolean;
    },
  ): void {
    for (const part of key.parts) {
      assert.ok(!this.used.has(part), "a block in two keys");
      this.used.add(part);
    }
    assert.ok(!this.keys.has(hex(id)));
    this.keys.set(hex(id), {
      id: hex(id),
      master: key.master,
      bits: hex(bits),
      slaves: new Map(key.slaves.map((sae) => [sae, undefined])),
      expiresAt: this.now + LIFETIME,
      transaction: key.transaction && hex(key.transaction),
      composition: key.composes ? key.parts : [],
      readable: key.readable ?? true,
      erased: false,
    });
  }

  async reserve(own: number, peer: number): Promise<void> {
    const reservation = freshId();
    const enough = this.of(OWN.text, "free").length >= own && this.of(PEER.text, "free").length >= peer;
    const parts = await this.store.reserve({
      reservation,
      claims: [{ link: this.store.link(OWN.text)!, blocks: own }, {
        link: this.store.link(PEER.text)!,
        blocks: peer,
      }],
      plan: "for tests",
    });
    if (parts === undefined) return assert.ok(!enough, "refused though there were enough");
    assert.ok(enough);
    assert.deepEqual(parts.map((part) => part.length), [own, peer]);
    const ids = parts.flat().map((block) => hex(block.id));
    for (const [i, link] of [OWN.text, PEER.text].entries()) {
      for (const { id, bits } of parts[i]!) {
        const block = this.block(hex(id));
        assert.equal(block.state, "free");
        assert.equal(block.link, link);
        assert.equal(hex(block.bits), hex(bits));
        block.state = "reserved";
      }
    }
    this.reservations.push({ id: reservation, phase: "open", since: this.now, blocks: new Set(ids) });
  }

  /** `fates` says for each block in turn what becomes of it. */
  async finishReservation(index: number, fates: readonly number[], foreign: boolean): Promise<void> {
    const reservation = pick(this.reservations, index);
    if (reservation === undefined || reservation.phase === "refused" || reservation.phase === "absent") {
      return;
    }
    const lists: string[][] = [[], [], [], [], [], []];
    [...reservation.blocks].forEach((id, i) => lists[fates[i % fates.length]!]!.push(id));
    const [spend, burn, release, refused, unresolved, rest] = lists as [
      string[],
      string[],
      string[],
      string[],
      string[],
      string[],
    ];
    const bytes = (ids: readonly string[]) => ids.map((id) => Uint8Array.fromHex(id));
    const foreignBlocks = foreign ? [freshId()] : [];
    // Some have the digest of their block as key_ID, as with a peer that knows no other.
    const keys = bytes(spend).map((block, i) => ({ block, id: i % 2 === 0 ? freshId() : block }));
    const finished = await this.store.finishReservation({
      reservation: reservation.id,
      spend: [...bytes(spend), ...foreignBlocks],
      burn: bytes(burn),
      release: bytes(release),
      refused: bytes(refused),
      unresolved: bytes(unresolved),
      releaseRest: true,
      keys: keys.map((key) => ({
        ...key,
        origin: OWN.text,
        master: "11",
        slaves: ["21"],
        expiresAt: this.now + LIFETIME,
      })),
    });
    if (foreign || spend.length > 0 && reservation.phase !== "open") {
      return assert.deepEqual(finished, { ok: false });
    }
    assert.deepEqual(finished, { ok: true, burnt: burn.length, released: release.length + rest.length });
    for (const id of burn) this.block(id).state = "gone";
    for (const id of [...release, ...rest]) this.block(id).state = "free";
    for (const { id, block } of keys) {
      this.block(hex(block)).state = "key";
      this.#record(id, this.block(hex(block)).bits, {
        master: "11",
        slaves: ["21"],
        parts: [hex(block)],
        readable: false,
      });
    }
    this.reservations.splice(this.reservations.indexOf(reservation), 1);
    const stays = (blocks: string[], phase: Phase) => {
      if (blocks.length > 0) {
        this.reservations.push({ id: reservation.id, phase, since: this.now, blocks: new Set(blocks) });
      }
    };
    stays(refused, "refused");
    stays(unresolved, "unresolved");
  }

  /** Which of the peer's blocks it asks for: free ones, reserved ones, or ones that are gone. */
  async activate(
    indexes: readonly number[],
    slaves: readonly string[],
    kind: ActivationKind,
  ): Promise<void> {
    const link = this.store.link(PEER.text)!;
    const pool = [...this.blocks.values()].filter((block) => block.link === PEER.text);
    if (pool.length === 0) return;
    const parts = [...new Set(indexes.map((index) => pick(pool, index)!))];
    const transaction = kind === "blocks" ? undefined : freshId();
    const may = parts.every((block) => {
      if (block.state === "free") return true;
      if (block.state !== "reserved") return false;
      const reservation = this.reservations.find((each) => each.blocks.has(hex(block.id)))!;
      return reservation.phase !== "open" || (block.id[15]! & 1) !== link.ownHalf;
    });
    const size = kind === "blocks" || kind === "single" ? 256 : parts.length * 256;
    const padded = kind === "padded" ? new Uint8Array(size / 8).fill(7) : undefined;
    const keys = kind === "blocks"
      ? parts.map((block) => ({ id: block.id, size, blocks: [block.id] }))
      : kind === "single"
      ? parts.map((block) => ({ id: freshId(), size, blocks: [block.id] }))
      : [{ id: freshId(), size, blocks: parts.map((block) => block.id), padded }];
    const activation = {
      link,
      origin: PEER.text,
      keys,
      master: "21",
      slaves,
      expiresAt: this.now + LIFETIME,
      transaction,
      repeatableSince: transaction === undefined ? this.now : undefined,
    };
    const repeated = keys.every((key) => {
      const known = this.keys.get(hex(key.id));
      return known !== undefined && known.master === "21" && known.expiresAt === this.now + LIFETIME &&
        known.transaction === undefined && known.slaves.size === slaves.length && slaves.every((sae) =>
          known.slaves.has(sae)
        );
    });
    const result = await this.store.activate(activation);
    if (repeated) return assert.equal(result.kind, "repeated");
    if (!may) return assert.equal(result.kind, "refused");
    assert.equal(result.kind, "activated");
    for (const block of parts) {
      for (const reservation of this.reservations) reservation.blocks.delete(hex(block.id));
      block.state = "key";
    }
    for (const key of keys) {
      const blocks = key.blocks.map((id) => this.block(hex(id)));
      const composed = composeBits(blocks, size);
      const bits = padded === undefined ? composed : composed.map((byte) => byte ^ 7);
      this.#record(key.id, bits, {
        master: "21",
        slaves,
        parts: blocks.map((block) => hex(block.id)),
        transaction,
        composes: kind === "composed" || kind === "single",
      });
    }
    if (transaction !== undefined) {
      this.transactions.push({ id: transaction, blocks: parts.map((block) => hex(block.id)) });
      assert.equal((await this.store.activate(activation)).kind, "repeated");
    }
  }

  async takeBack(index: number, reuse: boolean, unknown: boolean): Promise<void> {
    const link = this.store.link(PEER.text)!;
    const known = pick(this.transactions, index);
    const transaction = unknown || known === undefined ? freshId() : known.id;
    const blocks = unknown || known === undefined ? [] : known.blocks;
    const taken = await this.store.takeBack({
      link,
      transaction,
      blocks: blocks.map((id) => Uint8Array.fromHex(id)),
      reuse,
    });
    const keys = [...this.keys.values()].filter((key) => key.transaction === hex(transaction));
    if (keys.some((key) => [...key.slaves.values()].some(Boolean))) return assert.equal(taken.kind, "read");
    // What is not to be used again is gone, as far as it was free.
    const burnFree = () => {
      for (const id of reuse ? [] : blocks) {
        if (this.block(id).state === "free") this.block(id).state = "gone";
      }
    };
    burnFree();
    const before = this.voided.get(hex(transaction));
    if (before === undefined) this.voided.set(hex(transaction), keys.length > 0);
    if (!(before ?? keys.length > 0)) return assert.equal(taken.kind, "unknown");
    assert.ok(taken.kind === "takenBack");
    for (const key of keys) {
      this.keys.delete(key.id);
      for (const id of key.composition) {
        this.block(id).state = reuse ? "free" : "gone";
        this.used.delete(id);
      }
    }
    const free = reuse ? blocks.filter((id) => this.block(id).state === "free") : [];
    assert.deepEqual(taken.free.map(hex).sort(), [...free].sort());
  }

  async setAside(indexes: readonly number[]): Promise<void> {
    const pool = [...this.blocks.values()].filter((block) => block.link === PEER.text);
    const chosen = [...new Set(indexes.flatMap((index) => pick(pool, index) ?? []))];
    const free = chosen.filter((block) => block.state === "free");
    const changed = await this.store.setAside({
      link: this.store.link(PEER.text)!,
      blocks: chosen.map((block) => block.id),
      retryAfter: LIFETIME,
    });
    assert.equal(changed, free.length);
    for (const block of free) block.state = "reserved";
    this.reservations.push({
      id: freshId(),
      phase: "absent",
      since: this.now,
      blocks: new Set(free.map((block) => hex(block.id))),
    });
  }

  /** @param certificate of the caller, where answers may be repeated; null: they may not. */
  async collect(
    indexes: readonly number[],
    caller: string,
    master: string,
    unknown: boolean,
    certificate: number | null,
  ): Promise<void> {
    const chosen = [...new Set(indexes.flatMap((index) => pick([...this.keys.values()], index) ?? []))];
    const ids: Uint8Array[] = chosen.map((key) => Uint8Array.fromHex(key.id));
    if (unknown) ids.push(freshId());
    if (ids.length === 0) return;
    const { now } = this;
    const repeat = certificate === null
      ? undefined
      : { certificate: new Uint8Array(32).fill(certificate), ms: REPEAT };
    const read = await this.store.collect({ caller, master, ids, repeat });
    if (chosen.some((key) => !key.slaves.has(caller))) return assert.equal(read.kind, "foreign");
    const mayRead = (first: Read | undefined) =>
      first === undefined ||
      certificate !== null && first.certificate === certificate && now < first.at + REPEAT;
    const readable = !unknown &&
      chosen.every((key) =>
        key.readable && !key.erased && key.master === master && key.expiresAt > this.now &&
        mayRead(key.slaves.get(caller))
      );
    if (!readable) return assert.equal(read.kind, "missing");
    assert.ok(read.kind === "keys");
    assert.deepEqual(
      read.keys.map((key) => [hex(key.id), hex(key.bits)]),
      chosen.map((key) => [key.id, key.bits]),
    );
    const before = chosen.filter((key) => key.slaves.get(caller) !== undefined);
    assert.deepEqual((read.repeated ?? []).map(hex), before.map((key) => key.id));
    for (const key of chosen) {
      if (before.includes(key)) continue;
      key.slaves.set(caller, { at: now, certificate: certificate ?? undefined });
      if (![...key.slaves.values()].every(Boolean)) continue;
      if (certificate === null) key.erased = true;
      else this.kept.set(key.id, now);
    }
  }

  async adopt(): Promise<void> {
    const forgotten = this.now - 300_000;
    const expected = this.reservations.filter((each) =>
      each.phase === "unresolved" || each.phase === "open" && each.since < forgotten
    );
    const adopted = await this.store.adopt(1000);
    assert.deepEqual(adopted.map((each) => hex(each.id)).sort(), expected.map((each) => hex(each.id)).sort());
    for (const { id, blocks } of adopted) {
      const reservation = expected.find((each) => hex(each.id) === hex(id))!;
      assert.deepEqual(blocks.map((block) => hex(block.id)).sort(), [...reservation.blocks].sort());
      reservation.phase = "unresolved";
    }
  }

  async expire(): Promise<void> {
    const expired = [...this.keys.values()].filter((key) => key.expiresAt <= this.now);
    const refusedBefore = this.now - LIFETIME;
    const burnt = this.reservations.filter((each) => each.phase === "refused" && each.since < refusedBefore);
    const erased = [...this.kept].filter(([, since]) => since + REPEAT <= this.now);
    const result = await this.store.expire({
      limit: 10_000,
      keptBefore: this.now - REPEAT,
      refusedBefore,
      absentBefore: 0,
      voidedBefore: 0,
    });
    assert.equal(result.keys, expired.length);
    assert.equal(result.erased, erased.length);
    assert.equal(result.burnt, burnt.reduce((sum, each) => sum + each.blocks.size, 0));
    const unread = expired.filter((key) => key.readable && ![...key.slaves.values()].every(Boolean));
    assert.deepEqual(result.unread.map(hex).sort(), unread.map((key) => key.id).sort());
    for (const [id] of erased) {
      this.kept.delete(id);
      const key = this.keys.get(id);
      if (key !== undefined) key.erased = true;
    }
    for (const key of expired) this.keys.delete(key.id);
    for (const reservation of burnt) {
      for (const id of reservation.blocks) this.block(id).state = "gone";
      this.reservations.splice(this.reservations.indexOf(reservation), 1);
    }
  }
}

function pick<T>(items: readonly T[], index: number): T | undefined {
  return items.length === 0 ? undefined : items[index % items.length];
}

/** One step: what it is called in a counterexample, and what it does. */
export class Step implements fc.AsyncCommand<Model, Model> {
  readonly #name: string;
  readonly #run: (model: Model) => Promise<void>;

  constructor(name: string, run: (model: Model) => Promise<void>) {
    this.#name = name;
    this.#run = run;
  }

  check(): boolean {
    return true;
  }

  async run(model: Model): Promise<void> {
    model.steps++;
    await this.#run(model);
  }

  toString(): string {
    return this.#name;
  }
}

function step<T extends unknown[]>(
  name: string,
  args: { [K in keyof T]: fc.Arbitrary<T[K]> },
  run: (model: Model, ...args: T) => Promise<void>,
): fc.Arbitrary<Step> {
  return fc.tuple(...args).map((values) =>
    new Step(`${name}(${JSON.stringify(values)})`, (model) => run(model, ...values as T))
  );
}

const index = fc.nat(1000);
const slaves = fc.uniqueArray(fc.constantFrom(...SAES), { minLength: 1 });
const link = fc.constantFrom(OWN.text, PEER.text);
const some = fc.array(index, { minLength: 1, maxLength: 4 });

/** @param numbers of keys in a delivery. */
export const stepsWith = (numbers: fc.Arbitrary<number>): fc.Arbitrary<Step>[] => [
  step("add", [link, fc.integer({ min: 1, max: 12 }), fc.boolean()], (model, ...args) => model.add(...args)),
  step("add", [link, fc.integer({ min: 1, max: 12 }), fc.boolean()], (model, ...args) => model.add(...args)),
  step(
    "deliver",
    [numbers, fc.constantFrom(256, 512, 744), slaves],
    (model, ...args) => model.deliver(...args),
  ),
  step(
    "reserve",
    [fc.integer({ min: 0, max: 2 }), fc.integer({ min: 0, max: 5 })],
    (model, ...args) => model.reserve(...args),
  ),
  step(
    "reserve",
    [fc.constant(0), fc.integer({ min: 1, max: 5 })],
    (model, ...args) => model.reserve(...args),
  ),
  step(
    "finishReservation",
    [index, fc.array(fc.nat(5), { minLength: 1, maxLength: 6 }), fc.nat(9).map((n) => n === 0)],
    (model, ...args) => model.finishReservation(...args),
  ),
  step(
    "activate",
    [some, slaves, fc.constantFrom(...ACTIVATION_KINDS)],
    (model, ...args) => model.activate(...args),
  ),
  step(
    "takeBack",
    [index, fc.boolean(), fc.nat(5).map((n) => n === 0)],
    (model, ...args) => model.takeBack(...args),
  ),
  step("setAside", [some], (model, ...args) => model.setAside(...args)),
  step(
    "collect",
    [
      some,
      fc.constantFrom(...SAES, "21"),
      fc.constantFrom("11", "21"),
      fc.nat(9).map((n) => n === 0),
      fc.constantFrom(null, 1, 1, 2),
    ],
    (model, ...args) => model.collect(...args),
  ),
  // One key, so that it is read often.
  step(
    "collect again",
    [fc.nat(2), fc.constantFrom(...SAES), fc.constantFrom("11", "21"), fc.constantFrom(null, 1, 1, 2)],
    (model, key, caller, master, certificate) => model.collect([key], caller, master, false, certificate),
  ),
  step("adopt", [], (model) => model.adopt()),
  step("expire", [], (model) => model.expire()),
  step("time", [fc.constantFrom(1, 400, 1000, 301_000)], (model, ms) => {
    model.now += ms;
    return Promise.resolve();
  }),
];
