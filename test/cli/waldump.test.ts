/** waldump and controldata: what they print, of sound, damaged and busy stores, and that they only read. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { CONTROL_SLOT_SIZE, decodeControl } from '../../src/encoding/control.ts';
import { encodeFrameHeader, FRAME_HEADER_SIZE, frameSeed } from '../../src/encoding/frame.ts';
import { initialize, open } from '../../src/index.ts';
import { COMMAND, lsnfs, lsnfsOutput, runProgram } from '../helpers/command-line.ts';
import { Random, seedOf } from '../helpers/random.ts';

const MIB = 1024 * 1024;
const FIRST_SEGMENT = 'wal/0000000000000000';
const SECOND_SEGMENT = 'wal/0000000000100000';

/** A store of two segments and more; its names and messages try to steer a terminal. */
async function makeStore(t: ExecutionContext): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), 'lsnfs-waldump-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const store = join(directory, 'store');
  await initialize(store, { segmentSize: MIB });
  const database = await open(store);
  await database.put(Buffer.from('/\u001b[31mred\u009b2J\u202e'), 'x');
  await database.transaction((transaction) => {
    for (let i = 0; i < 250; i++) transaction.put(`/many/${i}`, Buffer.alloc(5000, i));
  });
  await database.snapshots.create('named', { message: 'a\u001b]0;title\u0007 b\u0085c' });
  for (let i = 0; i < 5; i++) await database.put(`/after-${i}`, Buffer.alloc(200, i));
  await database.close();
  return store;
}

interface Line {
  type: string;
  [member: string]: unknown;
}

async function lines(t: ExecutionContext, code: number, ...args: string[]): Promise<Line[]> {
  const outcome = await lsnfs('waldump', ...args, '--json');
  t.is(outcome.code, code, outcome.stderr);
  t.is(outcome.stderr === '', code === 0, outcome.stderr);
  return outcome.stdout
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Line);
}

const recordsOf = (found: readonly Line[]): Line[] => found.filter(({ type }) => type === 'record');

/** Whether text holds what could steer a terminal. */
const isHarmless = (text: string): boolean => !/[\p{Cf}\p{Zl}\p{Zp}]|[^\P{Cc}\n]/u.test(text);

function patch(file: string, at: number, bytes: Uint8Array): void {
  const descriptor = openSync(file, 'r+');
  writeSync(descriptor, bytes, 0, bytes.length, at);
  closeSync(descriptor);
}

function flip(file: string, at: number): void {
  const byte = Buffer.alloc(1);
  const descriptor = openSync(file, 'r+');
  readSync(descriptor, byte, 0, 1, at);
  writeSync(descriptor, Uint8Array.of(byte[0]! ^ 1), 0, 1, at);
  closeSync(descriptor);
}

/** All bytes of a store. */
function contentOf(store: string): Map<string, string> {
  const names = readdirSync(store, { recursive: true, withFileTypes: true }).filter((entry) =>
    entry.isFile(),
  );
  return new Map(
    names.map((entry) => {
      const path = join(entry.parentPath, entry.name);
      return [path, readFileSync(path).toString('base64')];
    }),
  );
}

test('a line a record, then the end; bounds in every form of an LSN; nothing is written', async (t) => {
  const store = await makeStore(t);
  const before = contentOf(store);
  const all = await lines(t, 0, store);
  const records = recordsOf(all);
  t.like(all.at(-1), { type: 'end', how: 'unwritten', reason: 'nothing was written here' });
  t.is(records[0]!.transaction, 64);
  for (const kind of ['PUT', 'WRITE', 'CHECKPOINT', 'SNAPSHOT']) {
    t.true(
      records.some(({ record }) => record === kind),
      kind,
    );
  }
  const big = records.filter(({ bytes }) => Number(bytes) > MIB);
  t.true(big.length > 750, 'the transaction that goes over an edge');

  const text = await lsnfsOutput('waldump', store);
  t.true(isHarmless(text));
  t.is(text.split('\n').length - 2, records.length);
  t.regex(
    text,
    /^tx: {9}64, end: {8}216, len \(rec\/tot\): {5}97\/ {3}152, prev: 00000000, time: \d{4}-\d\d-\d\dT[\d:.]+Z, desc: PUT inodes 1 = 80 bytes$/m,
  );
  t.regex(text, /desc: PUT namespace 1\/"\\u001b\[31mred\\u009b2J\\u202e" = 2 bytes/);
  t.regex(text, /desc: SNAPSHOT "named" at .* message "a\\u001b\]0;title\\u0007 b\\u0085c"/);
  t.regex(
    text,
    /\n-- end of the log at LSN \d+ \(wal\/0000000000100000, offset \d+\): nothing was written here; .*\n$/,
  );

  const snapshot = records.find(({ record }) => record === 'SNAPSHOT')!;
  const from = Number(snapshot.transaction);
  const expected = records.filter(({ transaction }) => Number(transaction) >= from);
  for (const form of [`@lsn-${from}`, `0/${from.toString(16)}`]) {
    t.deepEqual(recordsOf(await lines(t, 0, store, '--from', form)), expected, form);
  }
  const middle = await lines(t, 0, store, '--from', String(from - 8), '--to', String(snapshot.end));
  t.like(middle[0], { type: 'partial', from: from - 8, to: from });
  t.deepEqual(recordsOf(middle), [snapshot]);
  t.like(middle.at(-1), { type: 'end', how: 'limit' });
  t.deepEqual(recordsOf(await lines(t, 0, store, '--limit', '7')), records.slice(0, 7));

  const statistics = (await lines(t, 0, store, '--stats')).at(-1)!;
  t.is(statistics.records, records.length);
  t.is(
    statistics.recordBytes,
    records.reduce((sum, { length }) => sum + Number(length), 0),
  );
  t.regex(await lsnfsOutput('waldump', store, '--stats'), /\nRECORD .*\n(?:.*\n)*WRITE +250 /);
  t.deepEqual(contentOf(store), before);
  t.is((await lsnfs('waldump', store, '--from', 'x')).code, 2);
});

test('damage is named with expected and found, and what stands behind it is printed', async (t) => {
  const store = await makeStore(t);
  const records = recordsOf(await lines(t, 0, store));
  const snapshot = records.find(({ record }) => record === 'SNAPSHOT')!;
  const at = Number(snapshot.transaction) - MIB;
  flip(join(store, SECOND_SEGMENT), at + FRAME_HEADER_SIZE + 20);
  const damaged = await lines(t, 4, store);
  t.deepEqual(
    recordsOf(damaged),
    records.filter((record) => record !== snapshot),
  );
  const damage = damaged.find(({ type }) => type === 'damage')!;
  t.like(damage, { segment: SECOND_SEGMENT, offset: at, resumesAt: snapshot.end });
  t.regex(String(damage.reason), /^checksum: expected \d+, found \d+$/);
  const outcome = await lsnfs('waldump', store);
  t.is(outcome.code, 4);
  t.regex(outcome.stdout, /^-- DAMAGE at LSN \d+ \(wal\/0000000000100000, offset \d+\): checksum: expected/m);
  t.regex(outcome.stderr, /^lsnfs: damage was found in .*: the log at LSN \d+ .*\n$/);

  rmSync(join(store, FIRST_SEGMENT));
  const second = await lines(t, 4, store, '--from', '64');
  t.true(recordsOf(second).length > 0);
  rmSync(join(store, SECOND_SEGMENT));
  t.true(
    String((await lines(t, 4, store))[0]!.reason).includes(`${SECOND_SEGMENT}, from which recovery reads`),
  );
});

test('a segment that is missing in the middle is named', async (t) => {
  const store = await makeStore(t);
  const database = await open(store);
  await database.transaction((transaction) => {
    for (let i = 0; i < 250; i++) transaction.put(`/more/${i}`, Buffer.alloc(5000, i));
  });
  await database.put('/last', 'x');
  await database.close();
  rmSync(join(store, SECOND_SEGMENT));
  const found = await lines(t, 4, store);
  t.true(String(found.find(({ type }) => type === 'damage')?.reason).includes(SECOND_SEGMENT));
  t.like(found.at(-1), { type: 'end', how: 'unwritten' });
  const report = await lsnfsOutput('controldata', store);
  t.regex(report, /^log segments missing: +0000000000100000$/m);
});

test('a torn tail is no damage', async (t) => {
  const store = await makeStore(t);
  const last = recordsOf(await lines(t, 0, store)).at(-1)!;
  patch(join(store, SECOND_SEGMENT), Number(last.end) - MIB - 8, Buffer.alloc(8, 0xee));
  const found = await lines(t, 0, store);
  t.like(found.at(-1), { type: 'end', how: 'torn', stoppedAt: last.transaction });
});

test('a record that is none, in a frame with a right checksum', async (t) => {
  const store = await makeStore(t);
  const control = decodeControl(readFileSync(join(store, 'control')).subarray(CONTROL_SLOT_SIZE));
  const all = await lines(t, 0, store);
  const { lsn } = all.at(-1) as unknown as { lsn: number };
  const last = recordsOf(all).at(-1)!;
  const payload = Buffer.from([99, 27, 91, 50, 74]);
  const header = Buffer.alloc(FRAME_HEADER_SIZE);
  const file = readFileSync(join(store, SECOND_SEGMENT));
  const facts = {
    payloadLength: payload.length,
    lsn,
    transactionStart: lsn,
    previousChecksum: file.readUInt32LE(Number(last.transaction) - MIB),
    more: false,
    // A time that is no date.
    timeMicroseconds: 2 ** 53 - 1,
    durableLsn: lsn,
  };
  encodeFrameHeader(header, facts, frameSeed(control.storeId), payload, 0);
  patch(join(store, SECOND_SEGMENT), lsn - MIB, Buffer.concat([header, payload]));
  const found = await lines(t, 4, store);
  t.like(found.at(-2), { type: 'damagedRecord', transaction: lsn });
  t.regex(String(found.at(-2)!.reason), /unknown op 99/);
});

test('without a control file the log says whose it is', async (t) => {
  const store = await makeStore(t);
  const records = recordsOf(await lines(t, 0, store));
  for (const spoil of [
    () => patch(join(store, 'control'), 0, Buffer.alloc(2 * CONTROL_SLOT_SIZE, 0x5a)),
    () => rmSync(join(store, 'control')),
  ]) {
    spoil();
    const found = await lines(t, 4, store);
    t.like(found[0], { type: 'note' });
    t.regex(String(found[0]!.message), /control file is .*header of wal\/0000000000000000$/);
    t.deepEqual(recordsOf(found), records);
  }
  for (const name of readdirSync(join(store, 'wal'))) flip(join(store, 'wal', name), 9);
  t.regex((await lsnfs('waldump', store)).stderr, /no segment of the log has a header that says whose it is/);
  rmSync(store, { recursive: true });
  const nothing = await lsnfs('waldump', store);
  t.is(nothing.code, 1);
  t.regex(nothing.stderr, /there is no store at/);
});

test('a reader that goes away ends it quietly', async (t) => {
  const store = await makeStore(t);
  const script = `"$0" "$1" waldump "$2" | head -n 1; echo "\${PIPESTATUS[0]}"`;
  const { code, stdout, stderr } = await runProgram('bash', ['-c', script, process.execPath, COMMAND, store]);
  t.is(code, 0);
  t.is(stderr, '');
  t.regex(stdout, /^tx: .*\n0\n$/);
});

/** A process that has the store open, and puts file after file until its input ends. */
async function writer(store: string): Promise<ChildProcess> {
  const index = new URL('../../src/index.js', import.meta.url).href;
  const code = `
    const { open } = await import(${JSON.stringify(index)});
    const database = await open(process.argv[1], { commitIntervalMs: 1 });
    let goesOn = true;
    process.stdin.on('end', () => { goesOn = false; }).resume();
    console.log('open');
    for (let i = 0; goesOn; i++) await database.put('/file-' + i % 100, Buffer.alloc(i * 37 % 20000, i));
    await database.close();`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', code, store], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  await once(child.stdout!, 'data');
  return child;
}

test('a store that is being written to: no damage is seen, and the writer is not hindered', async (t) => {
  const store = await makeStore(t);
  const child = await writer(store);
  t.teardown(() => child.kill('SIGKILL'));
  let length = 0;
  for (let round = 0; round < 2; round++) {
    const found = await lines(t, 0, store, '--stats');
    t.deepEqual(
      found.filter(({ type }) => type === 'damage'),
      [],
    );
    const { records } = found.at(-1) as unknown as { records: number };
    t.true(records > length);
    length = records;
  }
  const report = await lsnfsOutput('controldata', store);
  t.regex(report, /^state: +in production$/m);
  t.regex(report, new RegExp(`^in use by: +process ${child.pid}$`, 'm'));
  child.stdin!.end();
  t.deepEqual(await once(child, 'exit'), [0, null]);
  t.regex(await lsnfsOutput('controldata', store), /^in use by: +nobody$/m);
});

test('controldata shows both slots, and which one counts', async (t) => {
  const store = await makeStore(t);
  const before = contentOf(store);
  const report = await lsnfsOutput('controldata', store);
  for (const line of [
    /^format version: +3$/m,
    /^store fingerprint: +[0-9a-f]{8}$/m,
    /^page size: +4096$/m,
    /^log segment size: +1048576$/m,
    /^created at: +\d{4}-\d\d-\d\dT/m,
    /^state: +shut down$/m,
    /^slot [01] validity: +valid$/m,
    /^slot 1 checkpoint LSN: +\d+$/m,
    /^slot 0 root checksum: +\d+$/m,
    /^log segments: +[23], 0000000000000000 to 0000000000[12]00000$/m,
  ])
    t.regex(report, line);
  const json = JSON.parse(await lsnfsOutput('controldata', store, '--json'));
  const used: number = json.usedSlot;
  t.is(json.slots[used].sequence, json.slots[1 - used].sequence + 1);
  const bytes = readFileSync(join(store, 'control'));
  const { storeId } = decodeControl(bytes.subarray(used * CONTROL_SLOT_SIZE, (used + 1) * CONTROL_SLOT_SIZE));
  const secret = Buffer.from(storeId).toString('hex');
  t.false(report.includes(secret.slice(0, 8)), 'the id is a secret');
  t.deepEqual(contentOf(store), before);

  flip(join(store, 'control'), used * CONTROL_SLOT_SIZE + 100);
  const one = await lsnfsOutput('controldata', store);
  t.regex(one, new RegExp(`^slot ${used} validity: +not valid: .*checksum: expected \\d+, found \\d+$`, 'm'));
  t.regex(one, new RegExp(`^slot in use: +${1 - used}$`, 'm'));
  t.regex(one, /^state: +not shut down/m);

  truncateSync(join(store, 'control'), CONTROL_SLOT_SIZE * used + 100 * (1 - used));
  flip(join(store, 'control'), 0);
  const none = await lsnfs('controldata', store);
  t.is(none.code, 4);
  t.regex(none.stdout, /^slot in use: +none$/m);
  t.regex(none.stdout, /^slot 0 validity: +not valid: /m);
  t.regex(none.stderr, /^lsnfs: neither slot of .*control can be used\n$/);
  rmSync(join(store, 'control'));
  t.is((await lsnfs('controldata', store)).code, 1);
});

test('a new store has one slot, and a newer format is said to be one', async (t) => {
  const store = await makeStore(t);
  patch(join(store, 'control'), 0, Buffer.alloc(CONTROL_SLOT_SIZE));
  const report = await lsnfsOutput('controldata', store);
  t.regex(report, /^slot 0 validity: +not valid: the slot was never written: it is all zeros$/m);
  const { crc32 } = await import('../../src/encoding/checksum.js');
  const slot = readFileSync(join(store, 'control')).subarray(CONTROL_SLOT_SIZE);
  slot.writeUInt32LE(4, 8);
  slot.writeUInt32LE(crc32(slot, 0, CONTROL_SLOT_SIZE - 4), CONTROL_SLOT_SIZE - 4);
  patch(join(store, 'control'), CONTROL_SLOT_SIZE, slot);
  for (const command of ['controldata', 'waldump']) {
    const outcome = await lsnfs(command, store);
    t.is(outcome.code, 1);
    t.regex(outcome.stderr, /format 4.*use a newer lsnfs/);
  }
});

test('any bytes in control and lock: an answer, and nothing raw', async (t) => {
  const random = new Random(seedOf(t, 'controldata'));
  const store = await makeStore(t);
  const control = readFileSync(join(store, 'control'));
  for (let round = 0; round < 4; round++) {
    const bytes = Buffer.from(control);
    if (round < 2) bytes.set(random.bytes(1 + random.below(3000)), random.below(CONTROL_SLOT_SIZE));
    writeFileSync(
      join(store, 'control'),
      round < 2 ? bytes : random.bytes(random.below(3 * CONTROL_SLOT_SIZE)),
    );
    const mountpoint = '\u001b[2J\u009b31m\u202e';
    const owner = { pid: process.pid, startTicks: ticksOf(process.pid), mountpoint };
    const lock = round % 2 === 0 ? JSON.stringify(owner) : random.bytes(random.below(100_000));
    writeFileSync(join(store, 'lock'), lock);
    const json = round % 4 === 0 ? [] : ['--json'];
    const { code, stdout, stderr } = await lsnfs('controldata', store, ...json);
    t.true(code === 0 || code === 4, stderr);
    t.true(isHarmless(stdout) && isHarmless(stderr));
    if (round % 2 === 0) t.true(stdout.includes('\\u009b31m'), stdout);
  }
});

function ticksOf(pid: number): string {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]!;
}
