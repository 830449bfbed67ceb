/** Suggests known names for misspelt ones. */

/** The known name that is most like a misspelt one; `undefined` if none is like it. */
export function nearest(misspelt: string, known: readonly string[]): string | undefined {
  let best: { name: string; distance: number } | undefined;
  const plain = simplify(misspelt);
  for (const name of known) {
    const other = simplify(name);
    const distance = editDistance(plain, other);
    const limit = Math.max(1, Math.floor(Math.max(plain.length, other.length) / 3));
    const isPart = plain.length >= 4 && (other.startsWith(plain) || other.endsWith(plain));
    if ((distance <= limit || isPart) && (best === undefined || distance < best.distance)) {
      best = { name, distance };
    }
  }
  return best?.name;
}

/** Ignores notation: `keyLifetimeSeconds` and `KEY-LIFETIME-SECONDS` are the same. */
function simplify(name: string): string {
  return name.slice(0, 100).toLowerCase().replaceAll(/[-_ ]/g, "");
}

/** Insertions, deletions, replacements and swaps of adjacent characters between two texts. */
export function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1;
      let distance = Math.min(last[j]! + 1, row[j - 1]! + 1, last[j - 1]! + cost);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        distance = Math.min(distance, beforeLast[j - 2]! + 1);
      }
      row.push(distance);
    }
    [beforeLast, last] = [last, row];
  }
  return last[b.length]!;
}
