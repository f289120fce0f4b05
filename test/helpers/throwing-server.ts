/**
 * Serves a mount of the binding fuse-native in which directories cannot be made, by a bug: `mkdir` throws what nobody expects.
 * Arguments: store, mount point. Prints "ready" when it is mounted.
 */
import { startNativeMount } from '../../fuse/native/server.ts';
import { LiveFileSystem } from '../../src/vfs/live-file-system.ts';

LiveFileSystem.prototype.mkdir = () => {
  throw new TypeError('on purpose');
};

const [store, mountpoint] = process.argv.slice(2) as [string, string];
const handle = await startNativeMount({
  store,
  mountpoint,
  databaseOptions: { store, mountpoint },
  log: (message) => process.stderr.write(`${message}\n`),
});
process.stdout.write('ready\n');
await handle.ended;
