/** The error for a request that finds too few blocks. */
import type { Claim } from "../store/operations/claim.ts";
import type { Store } from "../store/store.ts";
import { InvalidRequest, OutOfKeys, type Refusal } from "../domain/refusals.ts";

/**
 * If there are enough blocks, but too few of the requested age, then it is the mandatory extension that cannot be met
 * (clause 6.2). Otherwise the same request may succeed when more blocks have been ingested.
 *
 * @param claims that could not be met.
 * @throws StoreUnavailable
 */
export async function shortage(
  store: Pick<Store, "freeBlocks">,
  claims: readonly Pick<Claim, "link" | "blocks" | "storedSince">[],
): Promise<Refusal> {
  if (claims.some(({ storedSince }) => storedSince !== undefined)) {
    const stock = await Promise.all(claims.map(({ link }) => store.freeBlocks(link.kme)));
    if (claims.every(({ blocks }, i) => stock[i]! >= blocks)) {
      return new InvalidRequest("not all extension_mandatory request options could be met", [
        { extension_mandatory_unmet: "kme_max_age_seconds: too few keys are recent enough" },
      ]);
    }
  }
  return new OutOfKeys("not enough keys are in stock");
}
