/** The newest CRL of each CA, so that none that is older counts after a restart. */
import type { Kysely } from "kysely";
import { buffer } from "../../domain/bytes.ts";
import { isOlder } from "../../domain/crl_version.ts";
import type { Schema } from "../table_schema.ts";
import type { Operation } from "../work.ts";

/** Bytes of the largest CRL that is kept. */
export const MAX_KEPT_CRL = 8_000_000;

export interface KeptCrl {
  /** Fingerprint of the certificate of the CA that has issued it. */
  readonly ca: string;
  /** Milliseconds since 1970. */
  readonly thisUpdate: number;
  /** The CRL number in decimal digits; absent if it has none. */
  readonly number?: string;
  readonly der: Uint8Array;
}

/** Stores a CRL in place of that of its CA, unless that one is newer. */
export const keepCrl: Operation<KeptCrl, null> = {
  name: "keepCrl",
  async run({ trx, dialect }, items) {
    for (const { ca, thisUpdate, number, der } of items) {
      const row = { this_update: thisUpdate, crl_number: number ?? null, der: buffer(der) };
      await dialect.insertIgnoring(trx.insertInto("crls").values({ ca, ...row })).execute();
      const kept = await dialect.forUpdate(
        trx.selectFrom("crls").select(["this_update", "crl_number"]).where("ca", "=", ca),
      ).executeTakeFirstOrThrow();
      const before = versionOf(kept.this_update, kept.crl_number);
      if (isOlder(versionOf(thisUpdate, number), before)) continue;
      await trx.updateTable("crls").set(row).where("ca", "=", ca).execute();
    }
    return items.map(() => null);
  },
};

function versionOf(thisUpdate: number, number: string | null | undefined) {
  return { thisUpdate, number: number == null ? undefined : BigInt(number) };
}

/** DER of all CRLs that are kept. */
export async function keptCrls(db: Kysely<Schema>): Promise<Uint8Array[]> {
  const rows = await db.selectFrom("crls").select("der").orderBy("ca").execute();
  return rows.map(({ der }) => Uint8Array.from(der));
}
