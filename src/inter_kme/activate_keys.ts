/** `POST /keys/activate`, the message of `qkd_kme_server`. */
import type { PeerAnswer, PeerRequest } from "../delivery/peer.ts";
import { formatKeyId, type KeyIdBytes } from "../domain/block.ts";
import { idToJson } from "../domain/ids.ts";
import type { PeerChannel } from "./channel.ts";

/** key_IDs in one message; the peer refuses more. */
const MAX_IDS_PER_MESSAGE = 10;

/** Messages of one request that are under way at the same time. */
export const MESSAGES_SIDE_BY_SIDE = 4;

type Fate = "activated" | "refused" | "untouched" | "unknown";

/**
 * Activates keys at a peer, in as many messages as needed. A peer that refuses one key of a message activates none of its
 * keys. Each key of a refused message is therefore sent again in a separate message, to find out which are refused. After
 * the first message that is rejected for another reason, or gets no answer, nothing more is sent.
 *
 * @returns what became of each key_ID; each list keeps the order of the request. Never throws.
 */
export async function activateKeys(
  channel: Pick<PeerChannel, "kmeId" | "post">,
  request: PeerRequest,
): Promise<PeerAnswer> {
  const { keyIds } = request;
  const fates = new Map<KeyIdBytes, Fate>();
  const queue: KeyIdBytes[][] = [];
  for (let i = 0; i < keyIds.length; i += MAX_IDS_PER_MESSAGE) {
    queue.push(keyIds.slice(i, i + MAX_IDS_PER_MESSAGE));
  }
  let reason: string | undefined;

  const record = (ids: KeyIdBytes[], fate: Fate, why?: string) => {
    for (const id of ids) fates.set(id, fate);
    if (why === undefined) return;
    reason ??= why;
    queue.length = 0;
  };
  const send = async (ids: KeyIdBytes[]) => {
    const outcome = await channel.post("/keys/activate", message(ids, request));
    if (outcome.kind === "unreached") return record(ids, "untouched", `KME ${channel.kmeId} is unreachable`);
    if (outcome.kind === "unknown") return record(ids, "unknown", `KME ${channel.kmeId} did not answer`);
    if (outcome.status === 200) return record(ids, "activated");
    if (outcome.status >= 500) {
      // A peer answers so when it does not know whether its commit was done.
      return record(ids, "unknown", `KME ${channel.kmeId} answered with status ${outcome.status}`);
    }
    if (outcome.status !== 400 || !outcome.body.includes("Cannot activate key")) {
      return record(ids, "untouched", `KME ${channel.kmeId} refuses with status ${outcome.status}`);
    }
    if (ids.length === 1) return record(ids, "refused");
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

function message(ids: readonly KeyIdBytes[], { origin, remote }: PeerRequest): string {
  return JSON.stringify({
    key_IDs_list: ids.map(formatKeyId),
    origin_SAE_ID: idToJson(origin),
    remote_SAE_ID: idToJson(remote),
  });
}
