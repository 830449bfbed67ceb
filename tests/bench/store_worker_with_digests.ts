/** The thread of an SQLite database, with digests as key_IDs. */
import "./digests_as_key_ids.ts";
import "../../src/store/engine/store_worker.ts";
