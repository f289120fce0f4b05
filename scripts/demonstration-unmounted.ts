/**
 * The demonstration where nothing can be mounted: what programs do to a mount is done through the API, and the rest
 * through the command line, on the store itself.
 */
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Database, open } from '../src/index.ts';
import type { Shell } from './shell.ts';
import { copySourceTree } from './source-tree.ts';

export interface Stage {
  readonly shell: Shell;
  readonly directory: string;
  readonly project: string;
  readonly say: (text: string) => void;
}

/** Shows the call, and makes it. */
async function show<Result>(call: string, work: () => Promise<Result> | Result): Promise<Result> {
  process.stdout.write(`> ${call}\n`);
  return work();
}

/** Every file below `source` as one transaction; returns how many. */
async function importTree(database: Database, source: string, target: string): Promise<number> {
  const names = readdirSync(source, { recursive: true, withFileTypes: true });
  const { result } = await database.transaction((transaction) => {
    let files = 0;
    for (const entry of names) {
      if (!entry.isFile()) continue;
      const path = join(entry.parentPath, entry.name);
      transaction.put(join(target, path.slice(source.length)), readFileSync(path));
      files++;
    }
    return files;
  });
  return result;
}

/** Compares every file of a state with the files that went in. */
function countDifferences(database: Database, state: string, source: string, target: string): number {
  const view = database.at(state);
  try {
    return readdirSync(source, { recursive: true, withFileTypes: true }).filter((entry) => {
      if (!entry.isFile()) return false;
      const path = join(entry.parentPath, entry.name);
      return view.get(join(target, path.slice(source.length)))?.equals(readFileSync(path)) !== true;
    }).length;
  } finally {
    view.close();
  }
}

export async function demonstrateUnmounted({ shell, directory, project, say }: Stage): Promise<void> {
  const store = join(directory, 'store');
  const source = join(directory, 'source');

  say('A store is a directory.');
  await shell.run('lsnfs init store');
  copySourceTree(join(project, 'node_modules'), source);

  say("Files of this project's dependencies go in, all of them in one transaction.");
  let database = await show("database = await open('store')", () => open(store));
  const files = await show('await database.transaction((t) => { … t.put(path, content) … })', () =>
    importTree(database, source, '/project'),
  );
  process.stdout.write(`${files} files\n`);
  await show('await database.close()', () => database.close());
  await shell.run("lsnfs snapshot create store imported -m 'before the changes'");

  say('Things are changed, moved and removed, as a bad migration would.');
  database = await open(store);
  const { lsn } = await show(
    'await database.transaction((t) => { t.put(…); t.rename(…); t.delete(…) })',
    () =>
      database.transaction((transaction) => {
        transaction.put('/project/NEW', 'new\n');
        transaction.rename('/project/fast-check', '/project/slow-check');
        transaction.delete('/project/ava', { recursive: true });
      }),
  );
  await show("await database.delete('/project', { recursive: true })", () =>
    database.delete('/project', { recursive: true }),
  );
  await database.close();

  say('The snapshot shows everything as it was, and so does every LSN, whether or not anybody named it.');
  await shell.run('lsnfs snapshot list store');
  await shell.run('lsnfs ls store');
  await shell.run('lsnfs ls -l store @imported/project/commander');
  await shell.run(`lsnfs ls store @lsn-${lsn}/project`);
  await shell.run(`lsnfs cat store @lsn-${lsn}/project/NEW`);
  await shell.run(
    'lsnfs cat store @imported/project/ava/package.json | cmp - source/ava/package.json && echo identical',
  );

  await demonstrateCrash({ shell, directory, project, say });

  say('Every file of the snapshot is compared with what went in.');
  database = await open(store, { readOnly: true });
  const differences = countDifferences(database, 'imported', source, '/project');
  await database.close();
  process.stdout.write(`${files} files compared, ${differences} differ\n`);
  if (differences > 0) throw new Error('the snapshot differs from what went in');
  await shell.run('lsnfs status store');
}

/** A process commits numbered values and says so; it is killed in the middle. */
async function demonstrateCrash({ directory, say }: Stage): Promise<void> {
  say('A program puts numbered values, each durable before the next. In the middle of it, it is killed.');
  const program = [
    `import { open } from ${JSON.stringify(new URL('../src/index.js', import.meta.url).href)};`,
    "const database = await open('store');",
    "for (let n = 1; ; n++) { await database.put('/ledger', String(n)); process.stdout.write(n + '\\n'); }",
  ].join('\n');
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    cwd: directory,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  const ended = new Promise((resolve) => child.once('close', resolve));
  setTimeout(() => child.kill('SIGKILL'), 1500);
  await ended;
  const acknowledged = Number(said.trimEnd().split('\n').at(-1));
  const database = await open(join(directory, 'store'));
  const found = Number(database.get('/ledger')?.toString());
  await database.close();
  process.stdout.write(`acknowledged before the kill: ${acknowledged}; found after it: ${found}\n`);
  if (!(found >= acknowledged)) throw new Error('something that was durable is missing');
}
