/** `POST /keys/activate`, as the Rust KME `qkd_kme_server` speaks it. */
import { formatKeyId, type KeyIdBytes } from "../domain/block.ts";
import { type ConfiguredId, idToJson } from "../domain/ids.ts";
import type { PeerChannel } from "./channel.ts";

/** key_IDs in one message; the peer refuses more. */
export const MAX_IDS_PER_MESSAGE = 10;

/** Messages of one activation that are under way at the same time. */
export const MESSAGES_SIDE_BY_SIDE = 4;

/** Keys that the master has been given, to be made readable for the slave at the peer. */
export interface Activation {
  /** Distinct. */
  readonly keyIds: readonly KeyIdBytes[];
  /** The master SAE, of this KME. */
  readonly origin: ConfiguredId;
  /** The slave SAE, of the peer. */
  readonly remote: ConfiguredId;
}

/** What became of each key_ID: each is in exactly one of the lists, which keep the order of the activation. */
export interface ActivationOutcome {
  readonly activated: KeyIdBytes[];
  /** `Cannot activate key`: the peer does not have them free. */
  readonly refused: KeyIdBytes[];
  /** Certainly not activated: peer unreached, message rejected as a whole (status below 500), or never sent. */
  readonly untouched: KeyIdBytes[];
  /** May or may not be activated: no answer, or a failure of the peer (status 500 and above). */
  readonly unknown: KeyIdBytes[];
  /** Why there are untouched or unknown key_IDs; fit for an SAE's eyes. */
  readonly reason?: string;
}

type Fate = "activated" | "refused" | "untouched" | "unknown";

/** What is needed of a {@linkcode PeerChannel}. */
export type ActivationChannel = Pick<PeerChannel, "kmeId" | "post">;

/**
 * Activates keys at a peer. Sends as many messages as needed; the peer activates nothing of a message in which it
 * refuses a key, so such a message is sent again key by key to find out which. After the first message that is
 * rejected as such, or gets no answer, nothing more is sent.
 *
 * @returns never throws.
 */
export async function activateKeys(
  channel: ActivationChannel,
  activation: Activation,
  options: { readonly signal?: AbortSignal } = {},
): Promise<ActivationOutcome> {
  const { keyIds } = activation;
  const fates = new Map<KeyIdBytes, Fate>();
  const queue: KeyIdBytes[][] = [];
  for (let i = 0; i < keyIds.length; i += MAX_IDS_PER_MESSAGE) {
    queue.push(keyIds.slice(i, i + MAX_IDS_PER_MESSAGE));
  }
  let reason: string | undefined;

  const settle = (ids: KeyIdBytes[], fate: Fate, why?: string) => {
    for (const id of ids) fates.set(id, fate);
    if (why === undefined) return;
    reason ??= why;
    queue.length = 0;
  };
  const send = async (ids: KeyIdBytes[]) => {
    const outcome = await channel.post("/keys/activate", message(ids, activation), options.signal);
    if (outcome.kind === "unreached") return settle(ids, "untouched", `KME ${channel.kmeId} is unreachable`);
    if (outcome.kind === "unknown") return settle(ids, "unknown", `KME ${channel.kmeId} did not answer`);
    if (outcome.status === 200) return settle(ids, "activated");
    if (outcome.status >= 500) {
      // A peer whose commit had no certain outcome says no more than this.
      return settle(ids, "unknown", `KME ${channel.kmeId} answered with status ${outcome.status}`);
    }
    if (outcome.status !== 400 || !outcome.body.includes("Cannot activate key")) {
      return settle(ids, "untouched", `KME ${channel.kmeId} refuses with status ${outcome.status}`);
    }
    if (ids.length === 1) return settle(ids, "refused");
    if (reason === undefined) queue.unshift(...ids.map((id) => [id]));
  };
  let underWay = 0;
  await new Promise<void>((resolve, reject) => {
    const pump = () => {
      while (underWay < MESSAGES_SIDE_BY_SIDE && queue.length > 0) {
        underWay++;
        send(queue.shift()!).then(() => {
          underWay--;
          pump();
        }, reject);
      }
      if (underWay === 0) resolve();
    };
    pump();
  });

  const withFate = (fate: Fate) => keyIds.filter((id) => (fates.get(id) ?? "untouched") === fate);
  return {
    activated: withFate("activated"),
    refused: withFate("refused"),
    untouched: withFate("untouched"),
    unknown: withFate("unknown"),
    ...(reason === undefined ? {} : { reason }),
  };
}

function message(ids: readonly KeyIdBytes[], { origin, remote }: Activation): string {
  return JSON.stringify({
    key_IDs_list: ids.map(formatKeyId),
    origin_SAE_ID: idToJson(origin),
    remote_SAE_ID: idToJson(remote),
  });
}
