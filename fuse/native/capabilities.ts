/**
 * What the binding fuse-native cannot do, by name, with the reason. The conformance suites skip the cases that need it, and no
 * other; a mount says it once, and docs/MOUNT.md has the table.
 */

/** Names of what is missing, each with a sentence for people. */
export const NATIVE_LOSSES = {
  callerIdentity: 'new files belong to the user who mounts, whoever makes them',
} as const satisfies Readonly<Record<string, string>>;

export type NativeLoss = keyof typeof NATIVE_LOSSES;

/** One sentence for who mounts. */
export function describeLosses(): string {
  return `the binding fuse-native has limits: ${Object.values(NATIVE_LOSSES).join('; ')}`;
}
