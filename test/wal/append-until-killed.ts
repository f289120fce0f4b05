/** A program of kill.test.ts: appends numbered transactions for ever and prints which LSNs are durable. */
import * as fs from 'node:fs';
import { FileDirectory } from '../../src/storage/file-device.ts';
import { InProcessLog } from '../../src/wal/in-process-log.ts';
import { ThreadedLog } from '../../src/wal/threaded-log.ts';
import { recover } from './log-fixture.ts';

const [path, kind, first] = process.argv.slice(2) as [string, string, string];
const options = { ...recover(new FileDirectory(path)), commitIntervalMs: 5 };
const log = kind === 'threaded' ? new ThreadedLog(options) : new InProcessLog(options);
for (let i = Number(first); ; i++) {
  const payload = Buffer.alloc(4 + ((i * 7919) % (i % 50 === 0 ? 300_000 : 3000)), i);
  payload.writeUInt32LE(i, 0);
  const lsn = log.append(payload, payload.length, i);
  if (i % 7 === 0) {
    await log.sync(lsn);
    fs.writeSync(1, `${log.durableLsn}\n`);
  }
}
