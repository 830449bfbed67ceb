/** What a request is told that there are too few blocks for. */
import type { Claim } from "../store/operations/claim.ts";
import type { Store } from "../store/store.ts";
import { InvalidRequest, OutOfKeys, type Refusal } from "../domain/refusals.ts";

/**
 * Where there are enough blocks but too few of the age that the request demands, that demand is what cannot be met
 * (clause 6.2); otherwise more blocks may come, and the same request may be met later.
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
        { extension_mandatory_unmet: "kme_max_age_seconds: too few keys are that young" },
      ]);
    }
  }
  return new OutOfKeys("not enough keys are in stock");
}
