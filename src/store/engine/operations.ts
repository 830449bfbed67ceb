/** All changes that the store makes, by the names that the database's thread knows them by. */
import type { Operation } from "../work.ts";
import { activate } from "../operations/activate.ts";
import { adopt } from "../operations/adopt.ts";
import { burn, discardDataKeys } from "../operations/burn_blocks.ts";
import { collect } from "../operations/collect.ts";
import { deliver } from "../operations/deliver.ts";
import { expire } from "../operations/expire.ts";
import { advance } from "../operations/advance_generation.ts";
import { releaseLease, renewLease } from "../operations/leases.ts";
import { reserve } from "../operations/reserve.ts";
import {
  giveUpBatch,
  openBatch,
  receiveKeys,
  settleBatch,
  storeBatch,
} from "../operations/device_batches.ts";
import { setAside } from "../operations/set_aside.ts";
import { finishReservation } from "../operations/finish_reservation.ts";
import { keepCrl } from "../operations/keep_crl.ts";
import { matchBlocks } from "../operations/match_blocks.ts";
import { takeBack } from "../operations/take_back.ts";
import { ingestBlocks } from "../operations/ingest_blocks.ts";

export const OPERATIONS = [
  activate,
  adopt,
  advance,
  burn,
  collect,
  deliver,
  discardDataKeys,
  releaseLease,
  expire,
  reserve,
  setAside,
  finishReservation,
  keepCrl,
  matchBlocks,
  renewLease,
  takeBack,
  ingestBlocks,
  openBatch,
  storeBatch,
  giveUpBatch,
  settleBatch,
  receiveKeys,
] as const satisfies readonly Operation<never, unknown>[];
