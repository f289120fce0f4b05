/** What the kernel holds back or keeps: dirty pages, names of past states, content that changed behind its back. */
import { lstat, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { type MountHandle, startMount } from '../../fuse/server.ts';
import {
  canMount,
  mountDirectories,
  NO_MOUNT_REASON,
  PythonProgram,
  shell,
  TREE_DATABASE_MODULE,
} from '../helpers/mounting.ts';
import { until } from '../helpers/waiting.ts';

const mountTest = canMount() ? test.serial : test.serial.skip;
if (!canMount()) test(`mounts are not tested: ${NO_MOUNT_REASON}`, (t) => t.pass());

async function withMount(
  t: ExecutionContext,
  use: (mnt: string, handle: MountHandle) => Promise<void>,
): Promise<void> {
  const directories = mountDirectories();
  const logged: string[] = [];
  try {
    const handle = await startMount({
      store: directories.store,
      mountpoint: directories.mountpoint,
      databaseModule: TREE_DATABASE_MODULE,
      log: (message) => logged.push(message),
      countRequests: true,
    });
    try {
      await use(handle.mountpoint, handle);
    } finally {
      await handle.unmount();
    }
    t.deepEqual(logged, []);
  } finally {
    directories.cleanUp();
  }
}

async function content(handle: MountHandle, name: string): Promise<string> {
  return Buffer.from((await handle.execute('content', name)) as Uint8Array).toString('latin1');
}

mountTest('a flush reaches what programs wrote without an fsync, shared mappings included', async (t) => {
  await withMount(t, async (mnt, handle) => {
    const program = new PythonProgram(
      `
import mmap, os
file = os.open('written', os.O_CREAT | os.O_RDWR); os.write(file, b'unflushed' * 1000)
mapped = os.open('mapped', os.O_CREAT | os.O_RDWR); os.ftruncate(mapped, 8192)
memory = mmap.mmap(mapped, 8192); os.close(mapped)
memory[0:5] = b'first'; memory[4096:4100] = b'page'
gone = os.open('gone', os.O_CREAT | os.O_RDWR); os.write(gone, b'x' * 100); os.unlink('gone')
os.rename('written', 'renamed')
secret = os.open('secret', os.O_CREAT | os.O_RDWR, 0o000); os.write(secret, b's')
print('dirty'); input()
memory[0:5] = b'again'; os.pwrite(file, b'second', 0)
print('dirty again'); input()
`,
      mnt,
    );
    try {
      await program.line();
      // As a rule the kernel still holds it back; one that lacks memory, or is given half a minute, may not.
      t.true(['', 'unflushed'.repeat(1000)].includes(await content(handle, 'renamed')));
      await handle.flushKernelCaches();
      t.is(await content(handle, 'renamed'), 'unflushed'.repeat(1000));
      t.is((await content(handle, 'mapped')).slice(4096, 4100), 'page');
      t.is(await content(handle, 'secret'), 's');
      program.go();
      await program.line();
      await handle.flushKernelCaches();
      t.is((await content(handle, 'renamed')).slice(0, 8), 'secondhe');
      t.is((await content(handle, 'mapped')).slice(0, 5), 'again');
    } finally {
      await program.end();
    }
    // RELEASE comes after the program has gone.
    await until('no file is open', async () => (await handle.execute('handles', 0)) === 0);
  });
});

mountTest('a flush reaches a mount that was taken out of sight and is still in use', async (t) => {
  await withMount(t, async (mnt, handle) => {
    const program = new PythonProgram(
      `
import os
file = os.open('f', os.O_CREAT | os.O_RDWR); os.write(file, b'held back')
print('dirty'); input(); os.close(file); print('closed')
`,
      mnt,
    );
    try {
      await program.line();
      const unmounted = handle.unmount({ lazy: true });
      await until('the mount is out of sight', async () => (await readdir(mnt)).length === 0);
      await handle.flushKernelCaches();
      t.is(await content(handle, 'f'), 'held back');
      program.go();
      await program.line();
      await program.end();
      await unmounted;
    } finally {
      await program.end();
    }
  });
});

mountTest('SEEK_DATA and SEEK_HOLE see what was written a moment ago', async (t) => {
  await withMount(t, async (mnt) => {
    const program = new PythonProgram(
      `
import os
f = os.open('sparse', os.O_CREAT | os.O_RDWR); os.pwrite(f, b'x' * 4096, 1 << 20)
print(os.lseek(f, 0, os.SEEK_DATA), os.lseek(f, 0, os.SEEK_HOLE), os.lseek(f, 1 << 20, os.SEEK_HOLE))
`,
      mnt,
    );
    try {
      t.is(await program.line(), `${1 << 20} 0 ${(1 << 20) + 4096}`);
    } finally {
      await program.end();
    }
  });
});

mountTest('what changes behind the kernel is seen when the command is done', async (t) => {
  await withMount(t, async (mnt, handle) => {
    await shell('echo before > f; cat f; ls > /dev/null; ls -l f', mnt);
    await t.throwsAsync(lstat(join(mnt, 'new')), { code: 'ENOENT' });
    await handle.execute('replace-behind-the-kernel', 'f');
    t.is((await readFile(join(mnt, 'f'))).toString(), 'restored');
    t.is((await lstat(join(mnt, 'f'))).size, 8);
    // The wake-up's file was forgotten with everything else; commands are heard all the same.
    for (let i = 0; i < 5; i++) await handle.execute('lsn', 0);
    t.is(await handle.execute('wait', 5), 'waited');
  });
});

mountTest('names that were looked up stay in the kernel; its own changes need no question', async (t) => {
  await withMount(t, async (mnt, handle) => {
    await shell('mkdir d; echo x > d/f; cat d/f; ls -l d', mnt);
    await shell('cat d/f d/f; ls d; stat d/f; test ! -e d/none', mnt);
    const asked = async (): Promise<Record<string, number>> => {
      const before = await handle.requestCounts();
      await shell('cat d/f d/f; ls d; stat d/f; test ! -e d/none', mnt);
      const after = await handle.requestCounts();
      return Object.fromEntries(
        ['LOOKUP', 'READ', 'READDIR', 'READDIRPLUS'].map((opcode) => [
          opcode,
          (after[opcode] ?? 0) - (before[opcode] ?? 0),
        ]),
      );
    };
    // A kernel that lacks memory forgets, and asks again: not each time.
    let last = await asked();
    for (let i = 0; i < 20 && Object.values(last).some((count) => count > 0); i++) last = await asked();
    t.deepEqual(last, { LOOKUP: 0, READ: 0, READDIR: 0, READDIRPLUS: 0 });
    t.is(await shell('echo y > d/g; ls d; rm d/f; ls d', mnt), 'f\ng\ng\n');
  });
});

mountTest('past states that nobody uses are taken back from the kernel, others keep working', async (t) => {
  await withMount(t, async (mnt, handle) => {
    await shell('mkdir d; echo x > d/f', mnt);
    await handle.execute('snapshot', 'one');
    await handle.execute('snapshot', 'two');
    await shell('cat @one/d/f @two/d/f', mnt);
    t.deepEqual(((await handle.execute('doors', 0)) as string[]).sort(), ['@one', '@two']);
    const program = new PythonProgram(
      'import os; print(1); input(); print(os.getcwd(), open("d/f").read())',
      join(mnt, '@two'),
    );
    try {
      await program.line();
      t.is(await handle.dropIdleDoors(), 1);
      t.deepEqual(await handle.execute('doors', 0), ['@two']);
      program.go();
      t.is(await program.line(), `${join(mnt, '@two')} x`);
    } finally {
      await program.end();
    }
    t.is(await handle.dropIdleDoors(), 1);
    t.deepEqual(await handle.execute('doors', 0), []);
    t.is(await shell('cat @one/d/f', mnt), 'x\n');
  });
});
