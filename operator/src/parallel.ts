/**
 * Runs `work` on every item, at most `limit` at a time, in order; resolves when all are done.
 * `work` must not reject: what fails is the caller's to note. Once aborted, no further item is begun.
 */
export async function parallel<T>(
  items: readonly T[],
  limit: number,
  signal: AbortSignal,
  work: (item: T) => Promise<void>,
): Promise<void> {
  let next = 0;
  const worker = async () => {
    while (next < items.length && !signal.aborted) {
      const item = items[next] as T;
      next += 1;
      await work(item);
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, worker));
}
