/** Processes that open one database at the same moment, with and without encryption, or while its keys are changed. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import type { Transaction } from "kysely";
import type { StoreEncryption } from "../../src/config/config.ts";
import { buffer } from "../../src/domain/bytes.ts";
import { StoreUnavailable, StoreUnusable } from "../../src/domain/store_errors.ts";
import { readMasterKey } from "../../src/store/encryption/master_key.ts";
import { rekey } from "../../src/store/encryption/rekey.ts";
import { OPENING_LEASE_MS } from "../../src/store/operations/leases.ts";
import type { Store } from "../../src/store/store.ts";
import type { Schema } from "../../src/store/table_schema.ts";
import { makeTempDir } from "../harness/temp_dir.ts";
import {
  audit,
  closeOnce,
  delivery,
  fill,
  freshId,
  type Ledger,
  ledgerTest,
  makeTestKey,
  OWN,
} from "./store_fixture.ts";

const SERVERS = ["postgres", "mariadb"] as const;

const IN_THE_CLEAR =
  /uses the database without encryption, or did a moment ago; stop every KME process on it/;
const ENCRYPTED = /are encrypted, but this_kme.store_encryption is not set/;
const IN_USE = /^a process of this KME uses the database, or did a moment ago; stop every KME process on it/;

function refusal(work: Promise<unknown>, line: RegExp): Promise<void> {
  return assert.rejects(work, (error: unknown) => {
    assert.ok(error instanceof StoreUnusable, String(error));
    assert.match(error.message, line);
    return true;
  });
}

/** Registers a test with the master key of its own. */
function encryptionTest(
  name: string,
  fn: (ledger: Ledger, encryption: StoreEncryption) => Promise<void>,
): void {
  ledgerTest(name, async (ledger) => {
    await using dir = await makeTempDir("kme-keys-");
    await fn(ledger, await makeTestKey(dir.path));
  }, SERVERS);
}

async function rekeyOf({ database }: Ledger, encryption: StoreEncryption) {
  return await rekey({ database, thisKme: OWN, masterKey: await readMasterKey(encryption) });
}

/** Starts work, and meanwhile does what a process does that began to open the database before it. */
async function whileOpening<T>(
  { tables, dialect }: Ledger,
  start: () => Promise<T>,
  open: (trx: Transaction<Schema>) => Promise<unknown>,
): Promise<T> {
  const work = await tables.transaction().execute(async (trx) => {
    await dialect.forUpdate(trx.selectFrom("kme").selectAll()).execute();
    const started = start();
    started.catch(() => {});
    await open(trx);
    return { started };
  });
  return await work.started;
}

function asProcess(trx: Transaction<Schema>) {
  return trx.insertInto("processes")
    .values({ process_id: buffer(freshId()), lease_until: Date.now() + OPENING_LEASE_MS }).execute();
}

encryptionTest(
  "a process that has just opened the database counts for one that starts otherwise",
  async (ledger, encryption) => {
    const clear = await ledger.open({ encryption: undefined });
    await refusal(ledger.open({ encryption }), IN_THE_CLEAR);
    await closeOnce(clear);
    const first = await ledger.open({ encryption });
    await refusal(ledger.open({ encryption: undefined }), ENCRYPTED);
    const second = await ledger.open({ encryption });
    await fill(second, 1);
    assert.equal((await first.deliver(delivery(first)))?.length, 1);
  },
);

encryptionTest(
  "a start waits for another one that decides about encryption, and goes by its decision",
  async (ledger, encryption) => {
    await closeOnce(await ledger.open({ encryption: undefined }));
    const { tables } = ledger;
    await refusal(whileOpening(ledger, () => ledger.open({ encryption }), asProcess), IN_THE_CLEAR);
    await tables.deleteFrom("processes").execute();
    const key = { number: 1, sealed_key: Buffer.alloc(72), resealed_through: null };
    const withKey = (trx: Transaction<Schema>) => trx.insertInto("data_keys").values(key).execute();
    await refusal(whileOpening(ledger, () => ledger.open({ encryption: undefined }), withKey), ENCRYPTED);
  },
);

encryptionTest(
  "of processes that start at the same moment, with and without encryption, only one kind starts",
  async (ledger, encryption) => {
    for (let round = 0; round < 6; round++) {
      const starts = Array.from(
        { length: 8 },
        (_, i) => ledger.open({ encryption: (i + round) % 2 === 0 ? encryption : undefined }),
      );
      const results = await Promise.allSettled(starts);
      const stores: Store[] = [];
      for (const result of results) {
        if (result.status === "fulfilled") stores.push(result.value);
        else {await refusal(
            Promise.reject(result.reason),
            new RegExp(`${IN_THE_CLEAR.source}|${ENCRYPTED.source}`),
          );}
      }
      // The first one decides, and the others of its kind follow.
      assert.equal(stores.length, 4);
      assert.equal(new Set(stores.map(({ encrypts }) => encrypts)).size, 1);
      for (const store of stores) await closeOnce(store);
      await ledger.tables.deleteFrom("data_keys").execute();
    }
  },
);

encryptionTest(
  "keys are not changed while a process uses the database, from its opening on",
  async (ledger, encryption) => {
    const store = await ledger.open({ encryption });
    await fill(store, 3);
    await refusal(rekeyOf(ledger, encryption), IN_USE);
    await store.renewLease(OPENING_LEASE_MS, []);
    await refusal(rekeyOf(ledger, encryption), IN_USE);
    await closeOnce(store);
    await refusal(whileOpening(ledger, () => rekeyOf(ledger, encryption), asProcess), IN_USE);
    await ledger.tables.deleteFrom("processes").execute();
    assert.deepEqual(await rekeyOf(ledger, encryption), { before: "encrypted", encrypted: 3, damaged: 0 });
  },
);

encryptionTest(
  "whatever starts while keys are changed stores nothing that cannot be read afterwards",
  async (ledger, encryption) => {
    const first = await ledger.open({ encryption });
    await fill(first, 10);
    await closeOnce(first);
    let blocks = 10;
    for (let round = 0; round < 5; round++) {
      const [changed, ...starts] = await Promise.allSettled([
        rekeyOf(ledger, encryption),
        ...Array.from({ length: 4 }, () => ledger.open({ encryption })),
      ]);
      if (changed.status === "rejected") await refusal(Promise.reject(changed.reason), IN_USE);
      for (const start of starts) {
        assert.ok(start.status === "fulfilled", String((start as PromiseRejectedResult).reason));
        const store = start.value as Store;
        await fill(store, 1);
        blocks++;
        await closeOnce(store);
      }
    }
    const last = await ledger.open({ encryption, onDamaged: () => assert.fail("bits are damaged") });
    assert.equal((await last.deliver(delivery(last, blocks)))?.length, blocks);
    await audit(ledger);
  },
);

encryptionTest(
  "the data key of burnt keys stays if a process has opened the database meanwhile",
  async (ledger, encryption) => {
    await closeOnce(await ledger.open({ encryption }));
    const burning = await ledger.open({ encryption: "discard" });
    await burning.burn();
    const started = await ledger.open({ encryption });
    await refusal(burning.discardDataKeys(), /has begun to use the database; .* and burn again$/);
    await closeOnce(burning);
    await fill(started, 2);
    await closeOnce(started);
    const next = await ledger.open({ encryption });
    assert.equal((await next.deliver(delivery(next, 2)))?.length, 2);
  },
);

/** As after a process was stopped for longer than its lease. */
async function endLeases({ tables }: Ledger): Promise<void> {
  await tables.updateTable("processes").set({ lease_until: 0 }).execute();
}

const CHANGED = /^the keys that encrypt the database were changed while this process did not renew its lease/;

/** The process does nothing any more, and says why. */
async function assertLost(store: Store): Promise<void> {
  await assert.rejects(store.renewLease(OPENING_LEASE_MS, []), StoreUnavailable);
  assert.match(await store.failed, CHANGED);
  await assert.rejects(store.deliver(delivery(store)), StoreUnavailable);
  await assert.rejects(store.totalEntropy(), StoreUnavailable);
  await assert.rejects(store.renewLease(OPENING_LEASE_MS, []), StoreUnavailable);
}

encryptionTest(
  "a process whose lease has ended uses the database again only if its keys are the same",
  async (ledger, encryption) => {
    const back = await ledger.open({ encryption });
    await fill(back, 3);
    for (const end of [endLeases, ({ tables }: Ledger) => tables.deleteFrom("processes").execute()]) {
      await end(ledger);
      await back.renewLease(OPENING_LEASE_MS, []);
      await refusal(rekeyOf(ledger, encryption), IN_USE);
      assert.equal((await back.deliver(delivery(back)))?.length, 1);
    }
    await endLeases(ledger);
    assert.equal((await rekeyOf(ledger, encryption)).damaged, 0);
    await assertLost(back);
    const next = await ledger.open({ encryption, onDamaged: () => assert.fail("bits are damaged") });
    assert.equal((await next.deliver(delivery(next)))?.length, 1);
    assert.equal(await next.livingProcesses(), 0);
  },
);

encryptionTest(
  "a process whose lease has ended stores nothing in the clear after encryption was turned on",
  async (ledger, encryption) => {
    const clear = await ledger.open({ encryption: undefined });
    await endLeases(ledger);
    const encrypts = await ledger.open({ encryption });
    await fill(encrypts, 2);
    await assertLost(clear);
    assert.equal((await encrypts.deliver(delivery(encrypts, 2)))?.length, 2);
  },
);

encryptionTest(
  "a process whose lease has ended does not go on with the data key of burnt keys",
  async (ledger, encryption) => {
    const back = await ledger.open({ encryption });
    await endLeases(ledger);
    const burning = await ledger.open({ encryption: "discard" });
    await burning.burn();
    await burning.discardDataKeys();
    await closeOnce(burning);
    // Its data key has the same number.
    await ledger.open({ encryption });
    await assertLost(back);
  },
);

encryptionTest(
  "a process without encryption never gives out encrypted bits as a key",
  async (ledger, encryption) => {
    const damaged: string[] = [];
    const clear = await ledger.open({ encryption: undefined, onDamaged: ({ what }) => damaged.push(what) });
    await endLeases(ledger);
    const encrypts = await ledger.open({ encryption });
    await fill(encrypts, 2);
    assert.equal(await clear.deliver(delivery(clear, 2)), undefined);
    assert.deepEqual(damaged, ["block", "block"]);
  },
);
