/** Waiting for a condition. Limits are for what hangs: no machine that is merely slow comes near them. */
import { setTimeout as sleep } from 'node:timers/promises';

/** What one command, or the wait for one condition, may take. Below AVA's own limit, so that it is this one that speaks. */
export const LIMIT_MS = 240_000;

/** Returns when the condition is true. @throws Error that names what did not come */
export async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const end = performance.now() + LIMIT_MS;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`waited for ${LIMIT_MS / 1000} s: ${what}`);
    await sleep(10);
  }
}
