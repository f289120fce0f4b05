/**
 * Makes dist/bundle of the sources: what `lsnfs` runs. Most of the time of a short command goes into loading code, and
 * two hundred modules take Node twice as long as the same in a few files.
 *
 * All outputs lie in one directory, entries and what they share, so that a script which a module names as its neighbour
 * ('./store-thread.js') is there in the bundle, too, and every class exists once.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const projectDirectory = fileURLToPath(new URL('..', import.meta.url));
const outputDirectory = join(projectDirectory, 'dist', 'bundle');

/** Programs, scripts of threads, what they load by name, and what other packages import. */
const ENTRIES = {
  lsnfs: 'cli/main.ts',
  daemon: 'cli/daemon.ts',
  'store-thread': 'fuse/store-thread.ts',
  'mounted-database': 'fuse/mounted-database.ts',
  'writer-thread': 'src/wal/writer-thread.ts',
  index: 'src/index.ts',
};

rmSync(outputDirectory, { recursive: true, force: true });
await build({
  absWorkingDir: projectDirectory,
  entryPoints: ENTRIES,
  outdir: outputDirectory,
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20',
  // Dependencies stay what npm has installed.
  packages: 'external',
  logLevel: 'warning',
});
