/**
 * Installs what the engine is measured beside (bench/package.json), unless it is there. Of that nothing is needed: what cannot be
 * installed is missing in the tables.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { projectDirectory } from './set-up.mjs';

export function installPeers() {
  const directory = join(projectDirectory, 'bench');
  if (existsSync(join(directory, 'node_modules'))) return;
  const words = ['install', '--silent', '--no-audit', '--no-fund', '--prefix', directory];
  spawnSync('npm', words, { stdio: 'inherit' });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) installPeers();
