/** Waiting for something, but not for longer than a limit. */

/**
 * The result of a promise, or what `late` returns or throws if that takes longer. What becomes of the promise afterwards is ignored.
 *
 * @param ms milliseconds.
 */
export async function within<T>(promise: Promise<T>, ms: number, late: () => T): Promise<T> {
  const limit = Promise.withResolvers<T>();
  const timer = setTimeout(() => limit.resolve(Promise.try(late)), ms);
  try {
    return await Promise.race([promise, limit.promise]);
  } finally {
    clearTimeout(timer);
  }
}
