import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { FileDirectory } from '../../src/storage/file-device.ts';
import { seedOf } from '../helpers/random.ts';
import { until } from '../helpers/waiting.ts';
import { makeLog, randomFrom, readAll, temporaryDirectory } from './log-fixture.ts';

test('killed at any moment, a log keeps what it said was durable, in order', async (t) => {
  const random = randomFrom(seedOf(t, 'log'));
  const temporary = temporaryDirectory();
  t.teardown(temporary.remove);
  const directory = new FileDirectory(temporary.path);
  makeLog(directory);
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  const program = new URL(`./append-until-killed.${extension}`, import.meta.url).pathname;
  let count = 0;
  for (let round = 0; round < 6; round++) {
    const kind = round % 2 === 0 ? 'threaded' : 'in-process';
    const child = spawn(process.execPath, [program, temporary.path, kind, String(count)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let output = '';
    child.stdout.on('data', (data: Buffer) => {
      output += data.toString();
    });
    const exited = new Promise((resolve) => {
      child.once('close', resolve);
    });
    // Each line is seven transactions; then any moment.
    const lines = 3 + random() * 20;
    await until(`${lines} lines`, () => output.split('\n').length > lines);
    await sleep(random() * 20);
    child.kill('SIGKILL');
    await exited;
    const durable = Number(output.split('\n').at(-2));
    const { transactions, end } = readAll(directory);
    t.true(end.lsn >= durable, `round ${round}: the log ends at ${end.lsn}, and ${durable} was durable`);
    t.true(transactions.length >= count);
    transactions.forEach((transaction, i) => {
      const number = Buffer.from(transaction.payload).readUInt32LE(0);
      if (number !== i) t.fail(`transaction ${i} has number ${number}`);
    });
    count = transactions.length;
  }
  t.true(count > 100);
});
