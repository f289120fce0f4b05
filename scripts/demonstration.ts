/**
 * The main job of lsnfs, on real input, with every command that is run: mount a store, let ordinary programs work in
 * it, look at past states with standard tools, kill the daemon, and find everything again.
 *
 * Everything lies below one temporary directory, which is removed at the end, however that comes. Where nothing can
 * be mounted, the same is shown through the command line and the API (demonstration-unmounted.ts).
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { listMounts } from '../fuse/mountinfo.ts';
import { demonstrateUnmounted } from './demonstration-unmounted.ts';
import { CommandFailure, Shell } from './shell.ts';
import { copySourceTree } from './source-tree.ts';
import { whyNoMount } from './why-no-mount.ts';

/** The directory of package.json, from wherever this compiled file lies. */
function projectDirectory(): string {
  let directory = import.meta.dirname;
  while (!existsSync(join(directory, 'package.json'))) directory = dirname(directory);
  return directory;
}

const project = projectDirectory();
const directory = mkdtempSync(join(tmpdir(), 'lsnfs-start-'));
const say = (text: string) => process.stdout.write(`\n# ${text}\n`);

/** `lsnfs` in the PATH of the commands. */
function makeEnvironment(): NodeJS.ProcessEnv {
  const bin = join(directory, 'bin');
  mkdirSync(bin);
  const wrapper = join(bin, 'lsnfs');
  writeFileSync(
    wrapper,
    `#!/bin/sh\nexec '${process.execPath}' '${join(project, 'dist/bundle/lsnfs.js')}' "$@"\n`,
  );
  chmodSync(wrapper, 0o755);
  const paths = [bin, dirname(process.execPath), process.env.PATH ?? '', '/usr/sbin', '/sbin'];
  return { ...process.env, PATH: paths.join(':'), LC_ALL: 'C.UTF-8' };
}

const shell = new Shell(directory, makeEnvironment());

/** Takes away every mount below the directory, hung or not, and then the directory. */
function cleanUp(): void {
  for (const { mountpoint } of listMounts().filter((mount) => mount.mountpoint.startsWith(`${directory}/`))) {
    execFileSync('umount', ['-l', mountpoint], { stdio: 'ignore' });
  }
  rmSync(directory, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
}

async function demonstrateMounted(): Promise<void> {
  say('A store is a directory; mounted, it is a file system.');
  await shell.run('lsnfs init store');
  await shell.run('mkdir mnt && lsnfs mount store mnt');

  const files = copySourceTree(join(project, 'node_modules'), join(directory, 'source'));
  say(`Ordinary programs work in it. Here, ${files} files of this project's dependencies are copied in.`);
  await shell.run('cp -a source mnt/project');
  await shell.run('diff -r source mnt/project && echo identical');
  await shell.run("lsnfs snapshot create mnt imported -m 'before the changes'");

  say('Things are changed, moved and removed, as a bad migration would.');
  await shell.run('sed -i \'s/"version": "/&999./\' mnt/project/commander/package.json');
  await shell.run('mv mnt/project/fast-check mnt/project/slow-check');
  await shell.run('rm -r mnt/project/ava');
  await shell.run('echo new > mnt/project/NEW');

  say('The snapshot shows everything as it was. Standard tools read it.');
  await shell.run('ls mnt/@');
  await shell.run('ls -l mnt/@imported/project/commander');
  await shell.run('diff -rq mnt/@imported/project mnt/project', { status: 1 });
  await shell.run('diff -r source mnt/@imported/project && echo identical');

  say('Every committed state can be read, whether or not anybody named it. A commit prints its LSN.');
  const lsn = await shell.run('lsnfs commit mnt');
  await shell.run('rm -r mnt/project');
  await shell.run('ls mnt/project', { status: 2 });
  await shell.run(`find mnt/@lsn-${lsn}/project -type f | wc -l`);
  await shell.run(`cat mnt/@lsn-${lsn}/project/NEW`);
  await shell.run(
    `cp -a mnt/@lsn-${lsn}/project mnt/project && diff -r mnt/@lsn-${lsn}/project mnt/project && echo identical`,
  );

  await demonstrateCrash();

  say('It is unmounted, and the same commands work on the store itself.');
  await shell.run('lsnfs status mnt');
  await shell.run('lsnfs unmount mnt');
  await shell.run('lsnfs snapshot list store');
  await shell.run('lsnfs ls -l store @imported/project/commander');
  await shell.run(
    'lsnfs cat store @imported/project/commander/package.json | cmp - source/commander/package.json && echo identical',
  );
}

async function demonstrateCrash(): Promise<void> {
  say('A program writes lines, each with an fsync. In the middle of it the daemon is killed.');
  const { pid } = JSON.parse(await shell.run('lsnfs status mnt --json')) as { pid: number };
  const writer = join(project, 'scripts', 'fsync-writer.mjs');
  await shell.run(`node ${writer} mnt/ledger > acknowledged & sleep 1; kill -KILL ${pid}; wait`);
  await shell.run('ls mnt', { status: 2 });

  say('Mounted again, every line whose fsync had returned is there, and so is all the rest.');
  await shell.run('lsnfs mount store mnt');
  const acknowledged = readFileSync(join(directory, 'acknowledged'), 'utf8').split('\n').length - 1;
  await shell.run('wc -l acknowledged');
  await shell.run(
    `head -n ${acknowledged} mnt/ledger | cmp - acknowledged && echo 'none of them is missing'`,
  );
  await shell.run('diff -r source mnt/@imported/project && echo identical');
}

async function run(): Promise<number> {
  let interruptedBy: NodeJS.Signals | undefined;
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      interruptedBy = signal;
      shell.stop();
    });
  }
  const started = Date.now();
  try {
    // `npm start -- --no-mount` shows what others see.
    const reason = process.argv.includes('--no-mount') ? 'as asked for' : whyNoMount();
    if (reason === undefined) {
      await demonstrateMounted();
    } else {
      process.stdout.write(`Nothing can be mounted here (${reason}): the same is shown without a mount.\n`);
      await demonstrateUnmounted({ shell, directory, project, say });
    }
    say(`That is it, in ${Math.round((Date.now() - started) / 1000)} seconds. README.md says more.`);
    return 0;
  } catch (error) {
    if (!(error instanceof CommandFailure)) throw error;
    process.stderr.write(
      interruptedBy === undefined ? `\nIt went wrong: ${error.message}\n` : '\nInterrupted.\n',
    );
    return interruptedBy === undefined ? 1 : 130;
  } finally {
    cleanUp();
  }
}

process.exitCode = await run();
