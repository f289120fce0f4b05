import { chmodSync, existsSync, lstatSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { LsnfsError } from '../../src/errors.ts';
import { connectToStore } from '../../src/plugin/control-client.ts';
import {
  type JsonObject,
  LineSplitter,
  REQUEST_LIMIT,
  SOCKET_NAME,
} from '../../src/plugin/control-protocol.ts';
import { type ControlServerOptions, startControlServer } from '../../src/plugin/control-server.ts';
import { Random, seedOf } from '../helpers/random.ts';

function temporaryDirectory(t: ExecutionContext, inner = ''): string {
  const directory = mkdtempSync(join(tmpdir(), 'lsnfs-control-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const path = join(directory, inner);
  mkdirSync(path, { recursive: true, mode: 0o700 });
  return path;
}

async function echo(operation: string, args: JsonObject): Promise<unknown> {
  if (operation === 'fail') throw new LsnfsError('NAME_TAKEN', 'there is one already', { name: 'x' });
  if (operation === 'bug') throw new TypeError('not thought of');
  if (operation === 'slow') await new Promise((resolve) => setTimeout(resolve, Number(args.ms)));
  return { operation, args };
}

async function start(t: ExecutionContext, storePath: string, options: Partial<ControlServerOptions> = {}) {
  const server = await startControlServer({ storePath, execute: echo, ...options });
  t.teardown(() => server.closed());
  return server;
}

/** Sends raw bytes and returns all that comes back until the server ends the connection. */
function raw(storePath: string, ...pieces: (string | Buffer)[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(join(storePath, SOCKET_NAME));
    let received = '';
    socket.on('data', (chunk) => {
      received += chunk.toString('utf8');
    });
    // A server that has said why and closed may reset what is still being sent.
    socket.on('error', (error) => (received === '' ? reject(error) : resolve(received)));
    socket.on('close', () => resolve(received));
    for (const piece of pieces) socket.write(piece);
  });
}

test('requests are answered, several at once, by id', async (t) => {
  const store = temporaryDirectory(t);
  await start(t, store);
  const client = (await connectToStore(store))!;
  const answers = await Promise.all([
    client.request('slow', { ms: 50 }),
    client.request('quick', { text: 'ü\n\u2028' }),
    client.request('quick'),
  ]);
  client.close();
  t.deepEqual(answers, [
    { operation: 'slow', args: { ms: 50 } },
    { operation: 'quick', args: { text: 'ü\n\u2028' } },
    { operation: 'quick', args: {} },
  ]);
});

test('the socket is for its owner only, and a stale one is replaced', async (t) => {
  const store = temporaryDirectory(t);
  const stale = createServer();
  await new Promise<void>((resolve) => stale.listen(join(store, 'elsewhere'), resolve));
  // A listener whose name is moved leaves it behind when it ends, as a crash does.
  const { renameSync } = await import('node:fs');
  renameSync(join(store, 'elsewhere'), join(store, SOCKET_NAME));
  await new Promise((resolve) => stale.close(resolve));
  t.true(existsSync(join(store, SOCKET_NAME)));
  t.is(await connectToStore(store), undefined);

  const server = await start(t, store);
  t.is(lstatSync(join(store, SOCKET_NAME)).mode & 0o777, 0o600);
  const client = (await connectToStore(store))!;
  t.deepEqual(await client.request('a'), { operation: 'a', args: {} });
  client.close();
  await server.closed();
  t.false(existsSync(join(store, SOCKET_NAME)));
  t.is(await connectToStore(store), undefined);
});

test('errors keep code, message and details; unexpected ones are logged', async (t) => {
  const store = temporaryDirectory(t);
  const logged: string[] = [];
  await start(t, store, { onUnexpectedError: (error, operation) => logged.push(`${operation}: ${error}`) });
  const client = (await connectToStore(store))!;
  const expected = await t.throwsAsync(client.request('fail'), { instanceOf: LsnfsError });
  t.like(expected, { code: 'NAME_TAKEN', message: 'there is one already', details: { name: 'x' } });
  const unexpected = await t.throwsAsync(client.request('bug'), { instanceOf: LsnfsError });
  t.is(unexpected.code, 'EIO');
  t.regex(unexpected.message, /not thought of/);
  t.deepEqual(logged, ['bug: TypeError: not thought of']);
  client.close();
});

test('a malformed message gets an error, and the connection is closed', async (t) => {
  const store = temporaryDirectory(t);
  await start(t, store);
  for (const line of [
    '{',
    'null',
    '[]',
    '7',
    '{"operation":"a"}',
    '{"id":1}',
    '{"id":1,"operation":"a","args":[]}',
    '\0',
  ]) {
    const reply = await raw(store, `${line}\n`);
    t.regex(reply, /^\{"id":null,"error":\{"code":"INVALID_INPUT".*\}\n$/, line);
  }
});

test('a request beyond the limit is refused before it ends', async (t) => {
  const store = temporaryDirectory(t);
  await start(t, store);
  const reply = await raw(store, Buffer.alloc(REQUEST_LIMIT + 1, 0x20));
  t.regex(reply, /exceeds 1048576 bytes/);
  const client = (await connectToStore(store))!;
  await t.throwsAsync(client.request('a', { text: 'x'.repeat(REQUEST_LIMIT) }), { message: /exceed/ });
  t.deepEqual(await client.request('a'), { operation: 'a', args: {} }, 'the connection is still good');
  client.close();
});

test('what was asked before the client stops sending is answered', async (t) => {
  const store = temporaryDirectory(t);
  await start(t, store);
  const reply = await new Promise<string>((resolve, reject) => {
    const socket = connect({ path: join(store, SOCKET_NAME), allowHalfOpen: true });
    let received = '';
    socket.on('data', (chunk) => {
      received += chunk.toString('utf8');
    });
    socket.on('error', reject);
    socket.on('end', () => {
      socket.destroy();
      resolve(received);
    });
    socket.end('{"id":"one","operation":"slow","args":{"ms":30}}\n');
  });
  t.deepEqual(JSON.parse(reply), { id: 'one', result: { operation: 'slow', args: { ms: 30 } } });
});

test('an idle connection is closed, a waiting one is not', async (t) => {
  const store = temporaryDirectory(t);
  await start(t, store, { idleTimeoutMs: 2000 });
  const client = (await connectToStore(store))!;
  t.truthy(await client.request('slow', { ms: 3000 }));
  await new Promise((resolve) => setTimeout(resolve, 4000));
  const error = await t.throwsAsync(client.request('a'), { instanceOf: LsnfsError });
  t.regex(error.message, /no request came for too long/);
});

test('a request that trickles in is not waited for', async (t) => {
  const store = temporaryDirectory(t);
  await start(t, store, { idleTimeoutMs: 300 });
  const reply = await new Promise<string>((resolve) => {
    const socket = connect(join(store, SOCKET_NAME));
    const timer = setInterval(() => socket.write('{'), 50);
    let received = '';
    socket.on('data', (chunk) => {
      received += chunk.toString('utf8');
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      clearInterval(timer);
      resolve(received);
    });
  });
  // On a machine so busy that nothing came for as long, it is the other reason.
  t.regex(reply, /a request was not finished in time|no request came for too long/);
});

test('connections beyond the limit are closed, and there is room again when one ends', async (t) => {
  const store = temporaryDirectory(t);
  await start(t, store, { maxConnections: 3 });
  const clients = [];
  for (let i = 0; i < 3; i++) {
    const client = (await connectToStore(store))!;
    await client.request('a');
    clients.push(client);
  }
  for (let i = 0; i < 10; i++) {
    const one = await connectToStore(store);
    if (one !== undefined) await t.throwsAsync(one.request('a'), { code: 'STORE_CLOSED' });
  }
  t.deepEqual(await clients[1]!.request('a'), { operation: 'a', args: {} });
  clients[0]!.close();
  for (;;) {
    const next = await connectToStore(store);
    const answer = await next?.request('a').catch((error: unknown) => error);
    next?.close();
    if (!(answer instanceof Error) && answer !== undefined) break;
  }
  for (const client of clients) client.close();
  t.pass();
});

test('whatever is sent, the connection is closed or answered, and the server goes on', async (t) => {
  const random = new Random(seedOf(t, 'control garbage'));
  const store = temporaryDirectory(t);
  const unexpected: string[] = [];
  await start(t, store, { onUnexpectedError: (error) => unexpected.push(String(error)) });
  const good = '{"id":1,"operation":"a","args":{"path":"/x"}}\n';
  const lines = [
    '['.repeat(500_000),
    `{"id":1,"operation":"a","args":${'{"a":'.repeat(100_000)}`,
    '{"id":1e999,"operation":"a"}',
    '{"__proto__":{"id":1},"operation":"a"}',
    '{"id":1,"operation":"__proto__","args":{"__proto__":{}}}',
    '{"id":"\\ud800","operation":"\\u0000"}',
    '\ufeff{}',
  ];
  for (let round = 0; round < 300; round++) {
    let bytes: Buffer;
    if (round < lines.length) bytes = Buffer.from(`${lines[round]}\n`);
    else {
      bytes = Buffer.from(good.repeat(1 + random.below(3)));
      for (let count = random.below(5); count >= 0; count--) {
        if (random.below(2) === 0) bytes[random.below(bytes.length)] = random.below(256);
        else bytes = bytes.subarray(0, 1 + random.below(bytes.length));
      }
    }
    const replies = await new Promise<string>((resolve) => {
      const socket = connect({ path: join(store, SOCKET_NAME), allowHalfOpen: true });
      let received = '';
      socket.on('data', (chunk) => {
        received += chunk.toString('utf8');
      });
      socket.on('error', () => {});
      socket.on('end', () => socket.destroy());
      socket.on('close', () => resolve(received));
      socket.end(bytes);
    });
    for (const line of replies.split('\n').slice(0, -1)) {
      const reply = JSON.parse(line) as { id: unknown; error?: { code: string } };
      if (reply.id === null) t.is(reply.error?.code, 'INVALID_INPUT', line);
    }
  }
  t.deepEqual(unexpected, []);
  const client = (await connectToStore(store))!;
  t.deepEqual(await client.request('a'), { operation: 'a', args: {} });
  client.close();
});

test('a client that asks without end and reads nothing does not fill the memory', async (t) => {
  const store = temporaryDirectory(t);
  const big = 'x'.repeat(1 << 20);
  let executed = 0;
  await start(t, store, {
    execute: async () => {
      executed++;
      return big;
    },
    maxRequestsInFlight: 4,
  });
  const socket = connect(join(store, SOCKET_NAME));
  socket.pause();
  for (let id = 0; id < 2000; id++) socket.write(`{"id":${id},"operation":"a"}\n`);
  await new Promise((resolve) => setTimeout(resolve, 400));
  socket.destroy();
  t.true(executed < 2000, `${executed} of 2000 were executed`);
});

test('who waits for the store to be closed is told, and how it went', async (t) => {
  for (const failure of [undefined, new LsnfsError('NO_SPACE', 'no room for the last checkpoint')]) {
    const store = temporaryDirectory(t);
    const server = await start(t, store);
    const client = (await connectToStore(store))!;
    const answer = client.request('waitUntilClosed');
    await client.request('a');
    server.stop();
    t.is(await connectToStore(store), undefined, 'nobody new gets in');
    const closed = server.closed(failure);
    if (failure === undefined) t.deepEqual(await answer, { closed: true });
    else t.is((await t.throwsAsync(answer, { instanceOf: LsnfsError })).code, 'NO_SPACE');
    await closed;
    client.close();
  }
});

test('requests that wait fail when the daemon is gone', async (t) => {
  const store = temporaryDirectory(t);
  const server = createServer((socket) => socket.once('data', () => socket.destroy()));
  await new Promise<void>((resolve) => server.listen(join(store, SOCKET_NAME), resolve));
  const client = (await connectToStore(store))!;
  const error = await t.throwsAsync(client.request('a'), { instanceOf: LsnfsError });
  t.is(error.code, 'STORE_CLOSED');
  await t.throwsAsync(client.request('b'), { instanceOf: LsnfsError });
  await new Promise((resolve) => server.close(resolve));
});

test('cursors that a client leaves open are closed with its connection', async (t) => {
  const store = temporaryDirectory(t);
  const closed: unknown[] = [];
  let wake = () => {};
  const allClosed = new Promise<void>((resolve) => {
    wake = resolve;
  });
  await start(t, store, {
    execute: async (operation, args) => {
      if (operation !== 'closeCursor') return { cursor: Number(args.number) };
      if (closed.push(args.cursor) === 2) wake();
      return null;
    },
  });
  const client = (await connectToStore(store))!;
  await client.request('list', { number: 3 });
  await client.request('list', { number: 5 });
  client.close();
  await allClosed;
  t.deepEqual(closed, [3, 5]);
});

test('a store path longer than a socket address works', async (t) => {
  const store = temporaryDirectory(t, `${'long'.repeat(40)}/${'er'.repeat(50)}`);
  await start(t, store);
  t.is(lstatSync(join(store, SOCKET_NAME)).mode & 0o777, 0o600);
  const client = (await connectToStore(store))!;
  t.deepEqual(await client.request('a'), { operation: 'a', args: {} });
  client.close();
});

test('no store, no directory, no rights', async (t) => {
  const store = temporaryDirectory(t);
  t.is(await connectToStore(join(store, 'none')), undefined);
  t.is(await connectToStore(join(store, 'n'.repeat(200))), undefined);
  if (process.getuid?.() === 0) return;
  await start(t, store);
  chmodSync(store, 0);
  await t.throwsAsync(connectToStore(store), { code: 'EACCES' });
  chmodSync(store, 0o700);
});

test('lines are put together from any pieces', (t) => {
  let state = seedOf(t, 'pieces');
  const random = (below: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state % below;
  };
  const lines = Array.from({ length: 200 }, (_, index) => `${index}:${'ü'.repeat(random(40))}`);
  const bytes = Buffer.from(lines.map((line) => `${line}\n`).join(''));
  const splitter = new LineSplitter(100);
  const found: string[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = 1 + random(90);
    t.true(splitter.push(bytes.subarray(at, at + length), (line) => found.push(line)));
    at += length;
  }
  t.deepEqual(found, lines);
  t.false(splitter.push(Buffer.alloc(101), () => {}));
  t.false(splitter.push(Buffer.from('\na\n'), () => t.fail('nothing after an overflow counts')));
});
