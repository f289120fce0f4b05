/** AVA's side of tests with real mounts. */
import test from 'ava';
import { canMount, NO_MOUNT_REASON } from './mounting.ts';

/** Longer runs are asked for with LSNFS_LONG=1. */
export const IS_LONG: boolean = process.env.LSNFS_LONG === '1';

/** Tests that mount run one after the other: each loads the machine. */
export const mountTest = canMount() ? test.serial : test.serial.skip;

/** Says why when the tests of a file are skipped. */
export function sayWhySkipped(): void {
  if (!canMount()) test(`mounts are not tested: ${NO_MOUNT_REASON}`, (t) => t.pass());
}
