const EVERY_MS = 100;
const FOR_MS = 30_000;

/**
 * Asks again and again until the answer is true-ish, or half a minute has passed.
 *
 * @returns The answer, or undefined if none came in time.
 */
export async function until<T>(ask: () => Promise<T> | T, forMs = FOR_MS): Promise<T | undefined> {
  const end = performance.now() + forMs;
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    if (performance.now() > end) return undefined;
    await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
  }
}
