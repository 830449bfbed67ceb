/** The error for a request that the database has no blocks for. */
import type { Claim } from "../store/operations/claim.ts";
import type { Store } from "../store/store.ts";
import type { SaeId } from "../domain/ids.ts";
import { InvalidRequest, LimitReached, OutOfKeys, type Refusal } from "../domain/refusals.ts";
import { RETRY_SECONDS } from "./sae_limiter.ts";

/**
 * If there are enough blocks, but they are kept for other SAEs, then it is the limit of the master. If there are enough, but too
 * few of the requested age, then it is the mandatory extension that cannot be met (clause 6.2). Otherwise the same request may
 * succeed when more blocks have been ingested.
 *
 * @param claims that could not be met.
 * @throws StoreUnavailable
 */
export async function shortage(
  store: Pick<Store, "freeBlocks">,
  master: SaeId,
  claims: readonly Pick<Claim, "link" | "blocks" | "storedSince" | "keep">[],
): Promise<Refusal> {
  const isSelective = ({ storedSince, keep = 0 }: typeof claims[number]) =>
    storedSince !== undefined || keep > 0;
  if (claims.some(isSelective)) {
    const stock = await Promise.all(claims.map(({ link }) => store.freeBlocks(link.kme)));
    // Where there are too few blocks for anybody, it is not the reserve that is in the way.
    if (claims.some(({ blocks, keep = 0 }, i) => stock[i]! >= blocks && stock[i]! - blocks < keep)) {
      const limit = "reserve_share";
      const message = `the rest of the stock is kept for other SAEs than ${master}`;
      return new LimitReached(message, limit, RETRY_SECONDS[limit]);
    }
    const wantsAge = claims.some(({ storedSince }) => storedSince !== undefined);
    if (wantsAge && claims.every(({ blocks }, i) => stock[i]! >= blocks)) {
      return new InvalidRequest("not all extension_mandatory request options could be met", [
        { extension_mandatory_unmet: "kme_max_age_seconds: too few keys are recent enough" },
      ]);
    }
  }
  return new OutOfKeys("not enough keys are in stock");
}
