/** Whether FUSE file systems can be mounted here, found out by trying what a mount needs. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FUSE_DEVICE, hasFuse } from '../fuse/mount.ts';

/** Why nothing can be mounted, in words that end a sentence; undefined when it can. */
export function whyNoMount(): string | undefined {
  if (process.geteuid?.() !== 0) return 'mounting needs root';
  if (!hasFuse()) return `${FUSE_DEVICE} is missing or may not be opened`;
  const directory = mkdtempSync(join(tmpdir(), 'lsnfs-probe-'));
  try {
    // The right to mount at all, which a container may lack although its user is root.
    const mount = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=4k', 'lsnfs-probe', directory], {
      stdio: 'ignore',
    });
    if (mount.error !== undefined) return 'mount(8) is not installed';
    if (mount.status !== 0) return 'there is no right to mount (CAP_SYS_ADMIN)';
    spawnSync('umount', [directory], { stdio: 'ignore' });
    return undefined;
  } finally {
    rmdirSync(directory);
  }
}
