/** Watches the parts of a KME at work, and counts. */
import type { KeyObserver } from "../delivery/key_observer.ts";
import type { Peer } from "../delivery/peer.ts";
import type { RequestObserver } from "../http/request_observer.ts";
import type { BlockStore } from "../store/block_store.ts";
import type { IngestedFile } from "../ingest/ingestion.ts";
import type { KmeId } from "../domain/ids.ts";
import { add, type Counts, type Listener, noCounts } from "./counts.ts";

/** How an exchange with a peer ended. */
export type Outcome = "activated" | "refused" | "unreached" | "unknown";

export class Watch {
  readonly counts: Counts;
  /** Told of each exchange with a peer in which keys are to be activated. */
  onActivation: (kme: KmeId, outcome: Outcome, milliseconds: number) => void = () => {};

  /** @param links ids of the KMEs that a pool is shared with, this one's own included. */
  constructor(links: readonly KmeId[]) {
    this.counts = noCounts(links);
  }

  /** For delivery and housekeeping. */
  readonly keys: KeyObserver = {
    delivered: (kme, keys) => add(this.counts.delivered, kme, keys),
    activated: (origin, keys) => add(this.counts.activated, origin, keys),
    collected: (keys) => {
      this.counts.collected += keys;
    },
    expired: (keys) => {
      this.counts.expired += keys;
    },
    burnt: (reason, blocks) => {
      this.counts.burnt[reason] += blocks;
    },
  };

  /** For a listener's application. */
  requests(listener: Listener): RequestObserver {
    const { refusals } = this.counts;
    return {
      refused(status, reason) {
        const name = `${listener} ${status} ${reason}`;
        const known = refusals.get(name);
        if (known === undefined) refusals.set(name, { listener, status, reason, count: 1 });
        else known.count++;
      },
    };
  }

  databaseFailed(): void {
    this.counts.databaseErrors++;
  }

  happened(): void {
    this.counts.events++;
  }

  /** Counts what ingestion stores; passes everything on. */
  blockStore(store: BlockStore): BlockStore {
    return {
      get blocking() {
        return store.blocking;
      },
      get requests() {
        return store.requests;
      },
      fileProgress: (link, name) => store.fileProgress(link, name),
      freeBlocks: (link) => store.freeBlocks(link),
      addBlocks: async (batch) => {
        const added = await store.addBlocks(batch);
        const counts = this.counts.ingestion.get(batch.link);
        if (counts !== undefined) {
          counts.stored += added.stored;
          counts.known += added.known;
          if (added.stored > 0) counts.last = { at: new Date(), file: batch.file.name };
        }
        return added;
      },
    };
  }

  ingested({ link }: IngestedFile): void {
    const counts = this.counts.ingestion.get(link);
    if (counts !== undefined) counts.files++;
  }

  /** Times the activations at a peer; passes everything on. */
  peer(peer: Peer): Peer {
    const { kme } = peer;
    return {
      kme,
      ability: () => peer.ability(),
      takeBack: (request) => peer.takeBack(request),
      activate: async (request) => {
        const begin = performance.now();
        const answer = await peer.activate(request);
        const { activated } = answer;
        const outcome = activated.length === request.keyIds.length ? "activated" : outcomeOf(answer);
        this.onActivation(kme, outcome, performance.now() - begin);
        return answer;
      },
      send: async (transaction) => {
        const begin = performance.now();
        const answer = await peer.send(transaction);
        const outcome = answer.kind === "rejected" ? "refused" : answer.kind;
        this.onActivation(kme, outcome, performance.now() - begin);
        return answer;
      },
    };
  }
}

function outcomeOf(
  { unknown, untouched }: { unknown: readonly unknown[]; untouched: readonly unknown[] },
): Outcome {
  if (unknown.length > 0) return "unknown";
  return untouched.length > 0 ? "unreached" : "refused";
}
