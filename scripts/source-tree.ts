/** A real source tree of a few thousand files for the demonstration: a part of this project's own dependencies. */
import { cpSync, lstatSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

const FILES_WANTED = 3000;
const BYTES_WANTED = 40 << 20;

/** Packages that the demonstration speaks of by name; the others fill up in order of their names. */
const ALWAYS = ['ava', 'commander', 'fast-check'];

function sizeOf(directory: string): { files: number; bytes: number } {
  let files = 0;
  let bytes = 0;
  for (const entry of readdirSync(directory, { recursive: true, encoding: 'utf8' })) {
    const stat = lstatSync(join(directory, entry));
    if (!stat.isFile()) continue;
    files++;
    bytes += stat.size;
  }
  return { files, bytes };
}

/** Copies packages from `dependencies` until there are enough files, and returns how many files there are. */
export function copySourceTree(dependencies: string, target: string): number {
  mkdirSync(target);
  const names = readdirSync(dependencies).filter((name) => !name.startsWith('.') && !name.startsWith('@'));
  let files = 0;
  let bytes = 0;
  for (const name of new Set([...ALWAYS, ...names])) {
    const size = sizeOf(join(dependencies, name));
    if (bytes + size.bytes > BYTES_WANTED) continue;
    cpSync(join(dependencies, name), join(target, name), {
      recursive: true,
      preserveTimestamps: true,
      verbatimSymlinks: true,
    });
    files += size.files;
    bytes += size.bytes;
    if (files >= FILES_WANTED) break;
  }
  return files;
}
