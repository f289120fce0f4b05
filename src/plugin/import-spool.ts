/**
 * An archive that arrives in pieces and is imported when it is whole.
 *
 * A transaction is synchronous, and a client may take its time or vanish: so nothing is applied before everything is there.
 * The pieces are kept in a file in the store's directory, whose name is removed as soon as it is open: it is gone with
 * whoever had it open, also after a crash. Memory: one piece.
 */
import type { Device, StorageDirectory } from '../storage/device.ts';

const SPOOL_NAME = 'import';

export class ImportSpool {
  /** The directory that the archive is for. */
  readonly path: string;
  private readonly device: Device;
  private written = 0;
  private position = 0;

  /** @throws LsnfsError IO, NO_DESCRIPTORS, UNSAFE_STORE */
  constructor(directory: StorageDirectory, path: string) {
    this.path = path;
    this.device = directory.open(SPOOL_NAME, { create: true });
    try {
      directory.remove(SPOOL_NAME);
    } catch (error) {
      this.device.close();
      throw error;
    }
  }

  /** Bytes that have arrived. */
  get bytes(): number {
    return this.written;
  }

  /** The next piece. @throws LsnfsError NO_SPACE, IO */
  append(piece: Uint8Array): void {
    this.device.write(this.written, piece, 0, piece.length);
    this.written += piece.length;
  }

  /** The archive from its beginning, for TarReader. */
  readonly read = (target: Uint8Array, start: number, length: number): number => {
    const wanted = Math.min(length, this.written - this.position);
    const count = wanted === 0 ? 0 : this.device.read(this.position, target, start, wanted);
    this.position += count;
    return count;
  };

  close(): void {
    this.device.close();
  }
}
