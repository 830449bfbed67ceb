/** Consecutive parts of at most `length` items. */
export function* chunks<T>(items: readonly T[], length: number): Generator<T[]> {
  for (let i = 0; i < items.length; i += length) yield items.slice(i, i + length);
}
