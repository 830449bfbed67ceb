/** What a handler is given about the connection of its request. */
import type { FrontConnection } from "../tls/front.ts";

/** Hono's environment behind an mTLS front. */
export interface FrontEnv {
  Bindings: { readonly connection: Pick<FrontConnection, "identity" | "address" | "requestComplete"> };
}
