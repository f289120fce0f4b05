/** A program of threaded-log.test.ts: commits, prints the durable LSN, appends more, and ends without closing the log. */
import { FileDirectory } from '../../src/storage/file-device.ts';
import { ThreadedLog } from '../../src/wal/threaded-log.ts';
import { recover } from './log-fixture.ts';

const log = new ThreadedLog(recover(new FileDirectory(process.argv[2]!)));
for (let i = 0; i < 100; i++) log.append(Uint8Array.of(i), 1, i);
await log.sync(log.lsn);
process.stdout.write(String(log.durableLsn));
for (let i = 0; i < 100; i++) log.append(Uint8Array.of(i), 1, i);
