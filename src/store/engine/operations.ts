/** The changes that the store makes, all of them: by their names they are known to the thread of the database. */
import type { Operation } from "../work.ts";
import { activate } from "../operations/activate.ts";
import { adopt } from "../operations/adopt.ts";
import { burn } from "../operations/burn_blocks.ts";
import { collect } from "../operations/collect.ts";
import { deliver } from "../operations/deliver.ts";
import { expire } from "../operations/expire.ts";
import { advance } from "../operations/advance_generation.ts";
import { endOfLife, signOfLife } from "../operations/leases.ts";
import { reserve } from "../operations/reserve.ts";
import { setAside } from "../operations/set_aside.ts";
import { settle } from "../operations/settle.ts";
import { takeBack } from "../operations/take_back.ts";
import { takeUp } from "../operations/ingest_blocks.ts";

export const OPERATIONS = [
  activate,
  adopt,
  advance,
  burn,
  collect,
  deliver,
  endOfLife,
  expire,
  reserve,
  setAside,
  settle,
  signOfLife,
  takeBack,
  takeUp,
] as const satisfies readonly Operation<never, unknown>[];
