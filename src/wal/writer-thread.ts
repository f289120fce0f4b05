/** Where the thread of a log's writer begins; see writer.ts and threaded-log.ts. */
import { readlinkSync } from 'node:fs';
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { FileDevice, FileDirectory } from '../storage/file-device.ts';
import {
  PROGRESS,
  publishFailure,
  type SharedBuffers,
  SharedMemory,
  WRITER_THREAD,
} from './shared-memory.ts';
import { LogWriter } from './writer.ts';

export interface WriterThreadData {
  readonly buffers: SharedBuffers;
  readonly directoryPath: string;
  readonly segmentSize: number;
  readonly endLsn: number;
  readonly preparedSegment: number;
  readonly dataDescriptor: number;
  readonly dataName: string;
  readonly commitIntervalMs: number;
  readonly notifyPort: MessagePort | undefined;
}

/** What is posted when something advanced that somebody waits for. */
export const PROGRESS_MESSAGE = 'durable';

const data = workerData as WriterThreadData;
const port = data.notifyPort ?? parentPort!;
const shared = new SharedMemory(data.buffers);
// "PID/task/TID": by that the other side sees that this thread lives, without an event loop.
shared.store(WRITER_THREAD, Number(readlinkSync('/proc/thread-self').split('/').at(-1)));
try {
  const writer = new LogWriter({
    shared,
    directory: new FileDirectory(data.directoryPath),
    segmentSize: data.segmentSize,
    endLsn: data.endLsn,
    preparedSegment: data.preparedSegment,
    dataDevice: new FileDevice(data.dataName, data.dataDescriptor),
    commitIntervalMs: data.commitIntervalMs,
    notify: () => port.postMessage(PROGRESS_MESSAGE),
  });
  await writer.run();
} catch (error) {
  // Nothing was promised yet. Who waits already, perhaps without an event loop, looks at the shared memory.
  publishFailure(shared, error);
  Atomics.notify(shared.words, PROGRESS);
}
data.notifyPort?.close();
