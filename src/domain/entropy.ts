/** Shannon entropy of key bytes. */

/**
 * Shannon entropy in bits per byte.
 *
 * @param counts how often each of the 256 byte values occurred.
 * @returns 0 to 8; 0 when nothing was counted.
 */
export function shannonEntropy(counts: ArrayLike<number>): number {
  let total = 0;
  for (let i = 0; i < counts.length; i++) total += counts[i]!;
  let entropy = 0;
  for (let i = 0; i < counts.length; i++) {
    const count = counts[i]!;
    if (count === 0) continue;
    const p = count / total;
    entropy -= p * Math.log2(p);
  }
  return entropy;
}
