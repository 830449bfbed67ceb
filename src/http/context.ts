/** What a handler knows about the connection that its request came on. */
import type { FrontConnection } from "../tls/front.ts";

/** Hono's environment behind an mTLS front. */
export interface FrontEnv {
  Bindings: { readonly connection: Pick<FrontConnection, "identity" | "requestComplete"> };
}
