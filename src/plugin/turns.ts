/** Work in steps, on an event loop that others need as well. */

/** Does all the steps, and lets the event loop turn about every `turnMs` milliseconds. Returns what they return. */
export async function inTurns<Result>(steps: Generator<void, Result>, turnMs: number): Promise<Result> {
  let step = steps.next();
  for (let end = performance.now() + turnMs; step.done !== true; step = steps.next()) {
    if (performance.now() < end) continue;
    await new Promise((resolve) => setImmediate(resolve));
    end = performance.now() + turnMs;
  }
  return step.value;
}
