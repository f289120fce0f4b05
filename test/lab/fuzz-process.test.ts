/** Hostile input where it really arrives: lines on a control socket, and a lock file. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { SOCKET_NAME } from '../../src/plugin/control-protocol.ts';
import { startControlServer } from '../../src/plugin/control-server.ts';
import { isAlive, readOwner } from '../../src/store/lock.ts';
import { Random, seedOf } from '../helpers/random.ts';
import { Mutator } from './mutator.ts';

function temporary(): string {
  return mkdtempSync(join(tmpdir(), 'lsnfs-fuzz-'));
}

/** Sends bytes in pieces, ends, and returns what came back before the server closed. */
function converse(path: string, pieces: readonly Buffer[]): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ path, allowHalfOpen: true });
    let answer = '';
    socket.on('data', (chunk) => {
      answer += chunk.toString('utf8');
    });
    // A server that has had enough closes while the client still writes.
    socket.on('error', () => {});
    socket.on('close', () => resolve(answer));
    socket.on('connect', () => {
      for (const piece of pieces) socket.write(piece);
      socket.end();
    });
  });
}

test('changed requests on a control socket: one JSON line each, no unexpected error, and it goes on', async (t) => {
  const m = new Mutator(new Random(seedOf(t, 'control socket')));
  const directory = temporary();
  const unexpected: unknown[] = [];
  const server = await startControlServer({
    storePath: directory,
    execute: (operation, args) => Promise.resolve({ operation, args }),
    onUnexpectedError: (error) => unexpected.push(error),
    idleTimeoutMs: 2000,
  });
  try {
    const path = join(directory, SOCKET_NAME);
    const request = Buffer.from('{"id":1,"operation":"list","args":{"path":"/"}}\n');
    for (let i = 0; i < 150; i++) {
      const bytes = Buffer.concat(
        Array.from({ length: 1 + m.below(4) }, () => (m.chance(3) ? request : m.mutate(request, [request]))),
      );
      const cut = m.below(bytes.length + 1);
      const answer = await converse(path, [bytes.subarray(0, cut), bytes.subarray(cut)]);
      for (const line of answer.split('\n').slice(0, -1)) {
        const reply = JSON.parse(line) as { id: unknown; result?: unknown; error?: { code: string } };
        t.true(
          reply.id !== undefined && (reply.result !== undefined || reply.error?.code === 'INVALID_INPUT'),
          line,
        );
      }
      t.true(answer === '' || answer.endsWith('\n'));
    }
    const last = await converse(path, [request]);
    t.deepEqual(JSON.parse(last), { id: 1, result: { operation: 'list', args: { path: '/' } } });
    t.deepEqual(unexpected, []);
  } finally {
    await server.closed();
    rmSync(directory, { recursive: true, force: true });
  }
});

test('a lock file of any bytes is no owner, or one that can be asked about', (t) => {
  const m = new Mutator(new Random(seedOf(t, 'lock file')));
  const directory = temporary();
  try {
    const valid = Buffer.from('{"pid":1,"startTicks":"123","mountpoint":"/mnt"}\n');
    const values = ['-1', '0', '1e99', '1.5', '4294967296', '"1"', 'null', '{}', '"/../../etc"'];
    let owners = 0;
    for (let i = 0; i < 500; i++) {
      const text = m.chance(2) ? m.mutate(valid) : `{"pid":${m.pick(values)},"startTicks":"${m.below(9)}"}`;
      writeFileSync(join(directory, 'lock'), text);
      const owner = readOwner(directory);
      if (owner === undefined) continue;
      owners++;
      t.is(typeof owner.pid, 'number');
      t.is(typeof isAlive(owner), 'boolean');
    }
    t.true(owners > 0);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});
