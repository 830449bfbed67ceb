/** The thread of an SQLite database, with digests as key_IDs. */
import { storeDigests } from "./digests_as_key_ids.ts";
import "../../src/store/engine/store_worker.ts";

storeDigests();
