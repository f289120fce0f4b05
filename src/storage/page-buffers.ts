/**
 * Buffers of one page each that wait for their next use. A buffer from here holds what its last user left in it.
 *
 * A new buffer is memory that the process touches for the first time: the kernel has to find and clear it, which takes
 * several times as long as filling it with a page.
 */

/** Bytes that wait at most. */
const WAITING_BYTES = 16 * 1024 * 1024;

export class PageBuffers {
  readonly pageSize: number;
  private readonly waiting: Buffer[] = [];
  private readonly most: number;

  constructor(pageSize: number) {
    this.pageSize = pageSize;
    this.most = Math.floor(WAITING_BYTES / pageSize);
  }

  take(): Buffer {
    return this.waiting.pop() ?? Buffer.allocUnsafeSlow(this.pageSize);
  }

  /** Nobody reads or writes the buffer any more. */
  give(buffer: Buffer): void {
    if (this.waiting.length < this.most) this.waiting.push(buffer);
  }
}
