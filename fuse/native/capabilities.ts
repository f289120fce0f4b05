/**
 * What the binding fuse-native cannot do, by name, with the reason for people. A mount says it once; docs/MOUNT.md has the
 * table; and the conformance suites expect exactly the cases to fail that declare to need one of these.
 *
 * Each was found in libfuse 2.9 (its interface of paths, protocol 7.19), or in the native part of fuse-native 2.2.6.
 */
export const NATIVE_LOSSES = {
  /** The native part hands on no uid, gid and process of the caller. */
  creators: 'what is made belongs to the user who mounts, whoever makes it',
  /** libfuse drops a SETATTR of one time alone, as it is not told that UTIME_OMIT would be understood. */
  singleTimes: 'a change of one time alone is lost ("touch -m", "tar -x")',
  /** The native part has milliseconds, in arithmetic without signs. */
  nanoseconds: 'times are shown in milliseconds, and none before 1970',
  /** There is no STATX in the protocol. */
  birthTimes: 'no times of birth',
  /** Names come as text in UTF-8. */
  anyNames: 'only names that are UTF-8 can be used',
  /** POSIX_ACL is not in the protocol: the kernel goes by the mode. */
  acl: 'access control lists do not count',
  /** Who lists is not known. */
  trusted: 'everybody sees the names of trusted xattrs',
  /** HANDLE_KILLPRIV_V2 is not in the protocol. */
  setgid: 'a write leaves setgid to a file that its group may not execute',
  /** libfuse tells files apart by their names, and so does the kernel then. */
  hardLinks: 'the names of a hard link are files of their own to locks, mappings, pipes and sockets',
  /** Between a lookup and what follows it the name may come to mean another file, and libfuse has no name for the first any more. */
  replacedNames: 'a name may be missing for a moment while a file is renamed onto it',
  /** What has lost its name is only known to libfuse if it is an open file, and then below the directory where it was. */
  nameless:
    'a removed directory cannot be used, nor a directory be removed while a file that was removed from it is open',
  /** RENAME2 is not in the protocol. */
  renameFlags: 'no flags of renameat2',
  /** There is no TMPFILE in the protocol. */
  tmpfile: 'no O_TMPFILE',
  /** The native part has no handler for it. */
  fallocate: 'no fallocate',
  /** There is no LSEEK in the protocol. */
  seekHole: 'holes are not found',
} as const satisfies Readonly<Record<string, string>>;

export type NativeLoss = keyof typeof NATIVE_LOSSES;

/** One sentence for who mounts. */
export function describeLosses(): string {
  return `the binding fuse-native has limits that the binding kernel does not have: ${Object.values(NATIVE_LOSSES).join('; ')}`;
}
