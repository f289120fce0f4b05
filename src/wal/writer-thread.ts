/** Where the thread of a log's writer begins; see writer.ts and threaded-log.ts. */
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { FileDevice, FileDirectory } from '../storage/file-device.ts';
import { type SharedBuffers, SharedMemory } from './shared-memory.ts';
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
const writer = new LogWriter({
  shared: new SharedMemory(data.buffers),
  directory: new FileDirectory(data.directoryPath),
  segmentSize: data.segmentSize,
  endLsn: data.endLsn,
  preparedSegment: data.preparedSegment,
  dataDevice: new FileDevice(data.dataName, data.dataDescriptor),
  commitIntervalMs: data.commitIntervalMs,
  notify: () => port.postMessage(PROGRESS_MESSAGE),
});
await writer.run();
data.notifyPort?.close();
