/** Real mounts, worked on by the system's own tools. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { lstat, readdir, readFile, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { listMounts } from '../../fuse/mountinfo.ts';
import { type MountHandle, type StartOptions, startMount } from '../../fuse/server.ts';
import {
  canMount,
  type MountDirectories,
  mountDirectories,
  NO_MOUNT_REASON,
  runProgram,
  shell,
  TREE_DATABASE_MODULE,
} from '../helpers/mounting.ts';
import { until } from '../helpers/waiting.ts';

const mountTest = canMount() ? test.serial : test.serial.skip;
if (!canMount()) test(`mounts are not tested: ${NO_MOUNT_REASON}`, (t) => t.pass());

type Extra = Partial<StartOptions>;

async function withMount(
  t: ExecutionContext,
  extra: Extra,
  use: (mountpoint: string, handle: MountHandle, directories: MountDirectories) => Promise<void>,
): Promise<void> {
  const directories = mountDirectories();
  const logged: string[] = [];
  try {
    const handle = await startMount({
      store: directories.store,
      mountpoint: directories.mountpoint,
      databaseModule: TREE_DATABASE_MODULE,
      log: (message) => logged.push(message),
      ...extra,
    });
    try {
      await use(handle.mountpoint, handle, directories);
    } finally {
      await handle.unmount();
    }
    t.deepEqual(logged, []);
    t.deepEqual(await readdir(directories.mountpoint), []);
  } finally {
    directories.cleanUp();
  }
}

mountTest('ordinary tools work on a mount', async (t) => {
  await withMount(t, {}, async (mnt, _handle, { base }) => {
    const source = join(base, 'source');
    mkdirSync(source);
    await shell(
      `umask 022; mkdir -p a/b/c 'name with blanks'; seq 1 20000 > a/numbers; head -c 3000000 /dev/urandom > a/b/random
       ln -s ../numbers a/b/link; ln a/numbers a/b/c/hard; mkfifo a/fifo; touch -d '1969-12-31 23:59:58.5 UTC' a/old
       chmod 4711 a/b/random; printf x > 'name with blanks/ü'; truncate -s 10M a/sparse`,
      source,
    );
    await shell(`cp -a ${source}/. .`, mnt);
    await shell(`diff -r --no-dereference -x fifo ${source} .`, mnt);
    t.is(await shell('stat -c "%a %h %s" a/b/random a/numbers', mnt), '4711 1 3000000\n644 2 108894\n');
    t.is(await shell("stat -c '%.1Y' a/old", mnt), '-1.5\n');
    t.is(await shell('readlink a/b/link', mnt), '../numbers\n');
    await shell(
      'mv a/b moved; mv moved/random .; ln random again; rm random; cmp again ../source/a/b/random',
      mnt,
    );
    await shell(
      'tar cf ../t.tar . && mkdir x && tar xf ../t.tar -C x && diff -r --no-dereference -x x -x fifo . x',
      mnt,
    );
    t.is(await shell('find x -type f | wc -l', mnt), '6\n');
    await shell(
      'dd if=/dev/zero of=big bs=1M count=20 conv=fsync status=none; test $(stat -c %s big) = 20971520',
      mnt,
    );
    await shell('for i in $(seq 200); do echo $i > f$i; done; rm -rf x moved f*', mnt);
    t.is(await shell('ls', mnt), 'a\nagain\nbig\nname with blanks\n');
    const [mount] = listMounts().filter((entry) => entry.mountpoint === mnt);
    t.like(mount, { store: join(base, 'store'), readOnly: false });
    t.regex(await shell(`findmnt -no FSTYPE ${mnt}`, base), /fuse\.lsnfs/);
  });
});

mountTest('names that are not UTF-8 and long names', async (t) => {
  await withMount(t, {}, async (mnt) => {
    await shell(`touch $'\\xff\\xfe' $(printf 'n%.0s' {1..255})`, mnt);
    const names = await readdir(mnt, { encoding: 'buffer' });
    t.deepEqual(names.map((name) => name.length).sort(), [2, 255].sort());
    const { code, stderr } = await runProgram('touch', ['n'.repeat(256)], { cwd: mnt });
    t.is(code, 1);
    t.regex(stderr, /too long/);
  });
});

mountTest('directories with many entries are listed whole, also while they shrink', async (t) => {
  await withMount(t, {}, async (mnt) => {
    await shell('mkdir d; cd d; seq 1 5000 | xargs touch; test $(ls | wc -l) = 5000; ls -l > /dev/null', mnt);
    await shell('find d -name "*7*" -delete; test $(ls d | wc -l) = $(ls -f d | grep -cv "^\\.")', mnt);
    await shell('rm -r d; mkdir d; test -z "$(ls d)"; touch d/new; test "$(ls d)" = new', mnt);
  });
});

mountTest('an fsync waits for the log while others are served', async (t) => {
  await withMount(t, { databaseOptions: { holdSyncs: true } }, async (mnt, handle) => {
    let synced = false;
    const fsync = shell('dd if=/dev/zero of=f bs=4k count=1 conv=fsync status=none', mnt).then(() => {
      synced = true;
    });
    await until('the fsync waits', async () => Number(await handle.execute('waiting-syncs', 0)) > 0);
    for (let round = 0; round < 5; round++) await shell('echo x > g; cat g > /dev/null; rm g', mnt);
    t.false(synced);
    await handle.execute('let-syncs-go', 0);
    await fsync;
  });
});

mountTest('commands run between requests, asynchronous ones too, and errors come back', async (t) => {
  await withMount(t, {}, async (mnt, handle) => {
    const load = shell('for i in $(seq 300); do echo $i > f; done', mnt);
    const results = await Promise.all([
      handle.execute('wait', 30),
      handle.execute('wait', 10),
      handle.execute('lsn', 0),
    ]);
    t.deepEqual(results.slice(0, 2), ['waited', 'waited']);
    await t.throwsAsync(handle.execute('throw', 'this went wrong'), { message: 'this went wrong' });
    await load;
    // Nobody asks for anything now, and a command is answered all the same: at once, on a machine that has the time.
    let fastestMs = Infinity;
    for (let i = 0; i < 50 && fastestMs >= 500; i++) {
      const started = performance.now();
      await handle.execute('wait', 5);
      fastestMs = Math.min(fastestMs, performance.now() - started);
    }
    t.true(fastestMs < 500, `${fastestMs} ms`);
  });
});

mountTest('a read-only mount refuses writes', async (t) => {
  await withMount(t, { readOnly: true }, async (mnt) => {
    const { stderr } = await runProgram('touch', ['f'], { cwd: mnt });
    t.regex(stderr, /Read-only file system/);
  });
});

async function refusal(
  options: Partial<StartOptions> & { store: string; mountpoint: string },
): Promise<string> {
  try {
    const handle = await startMount({ databaseModule: TREE_DATABASE_MODULE, log: () => {}, ...options });
    await handle.unmount();
    return 'mounted';
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

mountTest('mounts that would go wrong are refused with what to do', async (t) => {
  await withMount(t, {}, async (mnt, _handle, { base, store }) => {
    const other = join(base, 'other');
    mkdirSync(join(other, 'inner'), { recursive: true });
    writeFileSync(join(base, 'file'), '');
    mkdirSync(join(store, 'inside'));
    const store2 = join(base, 'store2');
    mkdirSync(store2);
    t.regex(await refusal({ store: store2, mountpoint: join(base, 'missing') }), /does not exist.*mkdir -p/);
    t.regex(await refusal({ store: store2, mountpoint: join(base, 'file') }), /not a directory/);
    t.regex(await refusal({ store: store2, mountpoint: other }), /not empty.*--nonempty/);
    t.regex(await refusal({ store: store2, mountpoint: mnt }), /is a mount of lsnfs already.*unmount/);
    await symlink(mnt, join(base, 'alias'));
    t.regex(await refusal({ store: store2, mountpoint: join(base, 'alias') }), /is a mount of lsnfs already/);
    t.regex(await refusal({ store, mountpoint: join(other, 'inner') }), /is mounted at .* already/);
    t.regex(await refusal({ store: store2, mountpoint: store2 }), /lies in the store's own directory/);
    mkdirSync(join(store2, 'inside'));
    t.regex(
      await refusal({ store: store2, mountpoint: join(store2, 'inside') }),
      /lies in the store's own directory/,
    );
    mkdirSync(join(other, 'inner', 'store'));
    t.regex(
      await refusal({
        store: join(other, 'inner', 'store'),
        mountpoint: join(other, 'inner'),
        nonEmpty: true,
      }),
      /lies below/,
    );
    const failing = await refusal({
      store: store2,
      mountpoint: join(base, 'store', 'inside'),
      databaseOptions: { failToOpen: 'the store is damaged' },
    });
    t.is(failing, 'the store is damaged');
    t.regex(
      await refusal({ store: store2, mountpoint: join(store, 'inside'), options: ['no_such_option=1'] }),
      /mounting at .* failed/,
    );
    t.is(await refusal({ store: store2, mountpoint: other, nonEmpty: true }), 'mounted');
  });
});

mountTest('a busy mount is not unmounted, unless lazily', async (t) => {
  const directories = mountDirectories();
  try {
    const { store, mountpoint } = directories;
    const handle = await startMount({ store, mountpoint, databaseModule: TREE_DATABASE_MODULE });
    const sleeper = spawn('cat', { cwd: mountpoint });
    await t.throwsAsync(handle.unmount(), { message: /is in use.*fuser/ });
    sleeper.kill();
    await once(sleeper, 'close');
    await handle.unmount();
    await t.throwsAsync(handle.execute('lsn', 0), { code: 'STORE_CLOSED' });
  } finally {
    directories.cleanUp();
  }
});

const serverScript = fileURLToPath(
  new URL(
    import.meta.url.endsWith('.ts') ? '../helpers/mount-server.ts' : '../helpers/mount-server.js',
    import.meta.url,
  ),
);

function serveElsewhere(directories: MountDirectories, how = 'serve') {
  const child = spawn(process.execPath, [serverScript, directories.store, directories.mountpoint, how], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  return { child, closed: once(child, 'close'), errors: () => errors };
}

mountTest('the corpse of a killed server is cleaned up at the next mount', async (t) => {
  const directories = mountDirectories();
  try {
    const { store, mountpoint } = directories;
    const { child, closed, errors } = serveElsewhere(directories);
    await Promise.race([once(child.stdout, 'data'), closed]);
    t.is(child.exitCode, null, errors());
    await shell('echo x > f', mountpoint);
    child.kill('SIGKILL');
    await closed;
    await t.throwsAsync(lstat(mountpoint), { code: 'ENOTCONN' });
    const logged: string[] = [];
    const log = (message: string) => logged.push(message);
    const handle = await startMount({ store, mountpoint, databaseModule: TREE_DATABASE_MODULE, log });
    t.regex(logged[0] ?? '', /server that died/);
    await shell('echo y > f', mountpoint);
    await handle.unmount();
    t.is(listMounts().filter((mount) => mount.mountpoint === mountpoint).length, 0);
  } finally {
    directories.cleanUp();
  }
});

for (const how of ['exit', 'crash']) {
  mountTest(`a server that ends by ${how} leaves nobody hanging and no mount`, async (t) => {
    const directories = mountDirectories();
    try {
      const { closed, errors } = serveElsewhere(directories, how);
      const [code] = (await closed) as [number];
      t.is(code, how === 'exit' ? 0 : 1, errors());
      if (how === 'crash') t.regex(errors(), /store thread died.*on purpose/s);
      t.is(listMounts().filter((mount) => mount.mountpoint === directories.mountpoint).length, 0);
      t.true(existsSync(directories.mountpoint));
    } finally {
      directories.cleanUp();
    }
  });
}

mountTest('what a program reads of a past state is that state', async (t) => {
  await withMount(t, { snapdirVisible: true }, async (mnt, handle) => {
    await shell('mkdir d; echo then > d/f', mnt);
    await handle.execute('snapshot', 'before');
    await shell('echo now > d/f; echo more > d/g', mnt);
    t.is(await shell('cat @before/d/f d/f; ls @before/d', mnt), 'then\nnow\nf\n');
    t.is(await shell('ls; readlink @/before; ls @/before/d', mnt), '@before\nd\n../@before\nf\n');
    t.is((await readFile(join(mnt, '@latest/d/g'))).toString(), 'more\n');
    t.regex((await runProgram('touch', ['@before/x'], { cwd: mnt })).stderr, /Read-only/);
    t.regex((await runProgram('mv', ['d', '@before/'], { cwd: mnt })).stderr, /mv: /);
    await t.throwsAsync(shell('mkdir @before', mnt), { message: /File exists/ });
    const [live, old] = (await shell('stat -c %i d/f @before/d/f', mnt)).trim().split('\n');
    t.not(live, old);
    await handle.execute('delete-snapshot', 'before');
    await t.throwsAsync(lstat(join(mnt, '@before')), { code: 'ENOENT' });
    t.is(await shell('ls', mnt), 'd\n');
    await handle.execute('snapshot', 'before');
    t.is(await shell('cat @before/d/f; ls', mnt), 'now\n@before\nd\n');
  });
});
