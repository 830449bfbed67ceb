/**
 * `deno task health:false-positives [-- --files 10000] [-- --bytes 1048576]`: random files through the health tests of key
 * material, and the probability that one of them is refused. Exits with 1 when a file is refused.
 */
import { createCipheriv, randomBytes } from "node:crypto";
import { parseArgs } from "node:util";
import { KeyHealth, proportionCutoff, repetitionCutoff } from "../../src/ingest/key_health.ts";

const WINDOW = 512;

/** log2 of an upper bound of the probability that a file of so many random bytes is refused. */
export function falsePositivesLog2(bytes: number): { test: string; log2: number }[] {
  const windows = Math.ceil(bytes / WINDOW);
  const blocks = bytes / 32;
  const [n, p] = [WINDOW - 1, 1 / 256];
  // The upper tail of the binomial distribution: at most its first term times a geometric series.
  const least = proportionCutoff(WINDOW, windows) - 1;
  let term = n * Math.log2(1 - p);
  for (let k = 0; k < least; k++) term += Math.log2((n - k) / (k + 1) * p / (1 - p));
  const tail = term - Math.log2(1 - n * p / (least + 1));
  const each = [
    { test: "repetition count", log2: Math.log2(bytes) - 8 * (repetitionCutoff(bytes) - 1) },
    { test: "adaptive proportion", log2: Math.log2(windows) + tail },
    { test: "repeated blocks", log2: 2 * Math.log2(blocks) - 1 - 128 },
  ];
  return [...each, { test: "any", log2: Math.log2(each.reduce((sum, { log2 }) => sum + 2 ** log2, 0)) }];
}

/** So many random bytes, as fast as the tests take them. */
function randomFile(bytes: number): Uint8Array {
  const cipher = createCipheriv("aes-256-ctr", randomBytes(32), randomBytes(16));
  return Uint8Array.from(cipher.update(new Uint8Array(bytes)));
}

if (import.meta.main) {
  const { values } = parseArgs({
    args: Deno.args.filter((argument) => argument !== "--"),
    options: {
      files: { type: "string", default: "10000" },
      bytes: { type: "string", default: "1048576" },
    },
  });
  const [files, bytes] = [Number(values.files), Number(values.bytes)];
  if (!(files > 0) || !(bytes >= 32) || bytes % 32 !== 0) {
    console.error("usage: deno task health:false-positives [-- --files NUMBER] [-- --bytes MULTIPLE_OF_32]");
    Deno.exit(2);
  }
  const begun = performance.now();
  let refused = 0;
  for (let file = 0; file < files; file++) {
    const health = new KeyHealth(bytes);
    health.update(randomFile(bytes));
    if (health.problem !== undefined) {
      refused++;
      console.log(`file ${file}: ${health.problem}`);
    }
  }
  const seconds = (performance.now() - begun) / 1000;
  console.log(`${refused} of ${files} random files of ${bytes} bytes refused, in ${seconds.toFixed(0)} s`);
  for (const { test, log2 } of falsePositivesLog2(bytes)) {
    console.log(`probability that a file is refused, ${test}: below 2^${Math.ceil(log2 * 10) / 10}`);
  }
  Deno.exit(refused === 0 ? 0 : 1);
}
