/** Whether the binding fuse-native can be tested here. */
import { Addon } from '../../fuse/native/addon.ts';
import { LsnfsError } from '../../src/errors.ts';
import { NO_MOUNT_REASON } from './mounting.ts';

function whyNot(): string | undefined {
  if (NO_MOUNT_REASON !== undefined) return NO_MOUNT_REASON;
  try {
    new Addon();
    return undefined;
  } catch (error) {
    if (error instanceof LsnfsError && error.code === 'MOUNT_REFUSED') return error.message;
    throw error;
  }
}

/** Why tests of the binding fuse-native are skipped, or undefined when they can run. */
export const NO_NATIVE_REASON: string | undefined = whyNot();
