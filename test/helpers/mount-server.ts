/**
 * Serves a mount of a tree in memory in a process of its own, for tests that kill it.
 * Arguments: store, mount point. Prints "ready" when it is mounted.
 */
import { startMount } from '../../fuse/server.ts';
import { TREE_DATABASE_MODULE } from './mounting.ts';

const [store, mountpoint, how] = process.argv.slice(2);
const handle = await startMount({
  store: store!,
  mountpoint: mountpoint!,
  databaseModule: TREE_DATABASE_MODULE,
  log: (message) => process.stderr.write(`${message}\n`),
});
process.stdout.write('ready\n');
if (how === 'exit') process.exit(0);
if (how === 'crash') await handle.execute('crash', 'on purpose').catch(() => {});
await handle.ended.catch((error) => {
  process.stderr.write(`ended: ${String(error)}\n`);
  process.exitCode = 1;
});
