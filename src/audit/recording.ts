/** Turns what other rooms report into records. */
import { DEVICE_KEYS_NAME } from "../domain/stock_questions.ts";
import type { KeyObserver } from "../delivery/key_observer.ts";
import type { KeyRecords } from "../delivery/key_records.ts";
import type { Peer } from "../delivery/peer.ts";
import { formatKeyId, type KeyIdBytes } from "../domain/block.ts";
import { outcomeOf } from "../domain/transaction.ts";
import type { RefusedRequest } from "../http/request_observer.ts";
import type { DeviceObserver } from "../ingest/device_observer.ts";
import type { IngestedFile, RefusedFile } from "../ingest/ingestion_options.ts";
import type { RefusedClient } from "../tls/client_refusal.ts";
import type { ConnectedClient } from "../x509/client_identity.ts";
import type { Client } from "./audit_record.ts";
import type { AuditTrail } from "./audit_trail.ts";
import { RefusalLimit } from "./refusal_limit.ts";

type Notes = Pick<AuditTrail, "note">;

/** For delivery. */
export function keyRecords(trail: Pick<AuditTrail, "require" | "write" | "note">): KeyRecords {
  return {
    require: () => trail.require(),
    delivered: ({ client, master, slaves, size, ids }) =>
      trail.write({
        kind: "delivery",
        master,
        slaves,
        size,
        key_IDs: textOf(ids),
        ...describe(client),
      }),
    undelivered: ({ master, ids, reason }) =>
      trail.note({ kind: "undelivered", master, key_IDs: textOf(ids), reason }),
    fetched: ({ client, slave, master, ids, outcome }) =>
      trail.write({
        kind: "fetch",
        sae: slave,
        master,
        key_IDs: textOf(ids),
        outcome: outcome === "first" ? undefined : outcome,
        ...describe(client),
      }),
    async received({ caller, kme, transaction, master, slaves, ids, outcome, reason }) {
      const record = {
        kind: "transaction",
        direction: "received",
        kme,
        certificate: caller.fingerprint,
        transaction: transaction && formatKeyId(transaction),
        master,
        slaves,
        key_IDs: textOf(ids),
        outcome,
        reason,
      } as const;
      if (outcome === "activated") await trail.write(record);
      else trail.note(record);
    },
    takenBack: ({ caller, kme, transaction, outcome, reason }) =>
      trail.note({
        kind: "take_back",
        direction: "received",
        kme,
        certificate: caller.fingerprint,
        transaction: formatKeyId(transaction),
        outcome,
        reason,
      }),
  };
}

/** Records what is sent to a neighbour and what it answers; passes everything on. */
export function recordedPeer(peer: Peer, trail: Notes): Peer {
  const { kme } = peer;
  return {
    kme,
    ability: () => peer.ability(),
    askStock: (question) => peer.askStock(question),
    activate: async (request) => {
      const answer = await peer.activate(request);
      for (const outcome of ["activated", "refused", "untouched", "unknown"] as const) {
        if (answer[outcome].length === 0) continue;
        trail.note({
          kind: "transaction",
          direction: "sent",
          kme,
          master: request.origin.text,
          slaves: [request.remote.text],
          key_IDs: textOf(answer[outcome]),
          outcome,
          reason: answer.reason,
        });
      }
      return answer;
    },
    send: async (transaction) => {
      const answer = await peer.send(transaction);
      trail.note({
        kind: "transaction",
        direction: "sent",
        kme,
        transaction: formatKeyId(transaction.id),
        master: transaction.origin,
        slaves: transaction.recipients.flatMap(({ saes }) => saes),
        key_IDs: textOf(transaction.keys.map(({ id }) => id)),
        ...outcomeOf(answer),
      });
      return answer;
    },
    takeBack: async (request) => {
      const answer = await peer.takeBack(request);
      trail.note({
        kind: "take_back",
        direction: "sent",
        kme,
        transaction: formatKeyId(request.transaction),
        ...outcomeOf(answer),
      });
      return answer;
    },
  };
}

/** Records keys and blocks that are gone; passes everything on. */
export function recordedKeys(observer: KeyObserver, trail: Notes): KeyObserver {
  return {
    ...observer,
    expired: (keys) => {
      observer.expired(keys);
      trail.note({ kind: "expiry", key_IDs: textOf(keys) });
    },
    burnt: (reason, blocks) => {
      observer.burnt(reason, blocks);
      trail.note({ kind: "burning", reason, blocks });
    },
  };
}

/** Records refused requests and refused clients, a limited number of each client. */
export class RefusalRecords {
  readonly #limit: RefusalLimit;

  constructor(trail: Notes) {
    this.#limit = new RefusalLimit((record) => trail.note(record));
  }

  /** @param name of the interface, like `sae`. */
  request(name: string, { client, caller, request, status, reason, message }: RefusedRequest): void {
    const { certificate, address } = describe(client);
    this.#limit.add(`${name} ${certificate}`, {
      kind: "refusal",
      interface: name,
      caller,
      certificate,
      address,
      request,
      status,
      reason,
      message,
    });
  }

  /** A client whose connection was refused. */
  client(name: string, { reason, message }: RefusedClient): void {
    this.#limit.add(`${name} connection`, { kind: "refusal", interface: name, reason, message });
  }

  close(): void {
    this.#limit.close();
  }
}

export function noteIngested(trail: Notes, { link, file, stored, known }: IngestedFile): void {
  trail.note({ kind: "ingestion", link, file, outcome: "ingested", stored, known });
}

/** Records what comes from QKD devices; passes everything on. */
export function recordedDevices(observer: DeviceObserver, trail: Notes): DeviceObserver {
  const file = DEVICE_KEYS_NAME;
  return {
    ...observer,
    stored: (link, blocks, asked) => {
      observer.stored(link, blocks, asked);
      if (blocks > 0) trail.note({ kind: "ingestion", link, file, outcome: "ingested", stored: blocks });
    },
    lost: (link, loss, blocks) => {
      observer.lost(link, loss, blocks);
      trail.note({ kind: "ingestion", link, file, outcome: "lost", lost: blocks, reason: loss });
    },
  };
}

export function noteNotIngested(
  trail: Notes,
  outcome: "refused" | "served again",
  { link, file, reason }: RefusedFile,
): void {
  trail.note({ kind: "ingestion", link, file, outcome, reason });
}

function describe({ identity, address }: ConnectedClient): Client {
  return { certificate: identity.fingerprint, address };
}

function textOf(ids: readonly KeyIdBytes[]): string[] {
  return ids.map(formatKeyId);
}
