/**
 * The bytes of a file in memory: a list of chunks that exist once something was written there, so that a large
 * sparse file costs what it holds. A copy shares the chunks until one of the two writes to them.
 */
import { hash } from 'node:crypto';

const CHUNK_SIZE = 16384;
/** Of chunks that are shared: those never change. */
const fingerprints = new WeakMap<Uint8Array, string>();

export class SparseBytes {
  private length = 0;
  private chunks: (Uint8Array | undefined)[] = [];
  /** Which chunks no copy shares: only these are written in place. */
  private owned: boolean[] = [];

  /** Size in bytes; what was never written reads as zeros. */
  get size(): number {
    return this.length;
  }

  /** A copy that changes apart from this one. */
  clone(): SparseBytes {
    const copy = new SparseBytes();
    copy.length = this.length;
    copy.chunks = this.chunks.slice();
    this.owned = [];
    return copy;
  }

  /** A text that differs for different bytes. What was never written and zeros that were may differ too. */
  fingerprint(): string {
    const parts = this.chunks.map((chunk, index) => {
      if (chunk === undefined) return '';
      const shared = this.owned[index] !== true;
      const known = shared ? fingerprints.get(chunk) : undefined;
      if (known !== undefined) return known;
      const made = hash('sha1', chunk, 'base64');
      if (shared) fingerprints.set(chunk, made);
      return made;
    });
    return `${this.length} ${parts.join()}`;
  }

  /** Reads into target[start, start + length); returns the bytes read, less only at the end. */
  read(position: number, target: Uint8Array, start: number, length: number): number {
    const total = Math.max(0, Math.min(length, this.length - position));
    let done = 0;
    while (done < total) {
      const at = position + done;
      const inChunk = at % CHUNK_SIZE;
      const count = Math.min(total - done, CHUNK_SIZE - inChunk);
      const chunk = this.chunks[(at - inChunk) / CHUNK_SIZE];
      if (chunk === undefined) target.fill(0, start + done, start + done + count);
      else target.set(chunk.subarray(inChunk, inChunk + count), start + done);
      done += count;
    }
    return total;
  }

  /** Writes source[start, start + length), growing where needed. */
  write(position: number, source: Uint8Array, start: number, length: number): void {
    if (length === 0) return;
    if (position + length > this.length) this.length = position + length;
    let done = 0;
    while (done < length) {
      const at = position + done;
      const inChunk = at % CHUNK_SIZE;
      const count = Math.min(length - done, CHUNK_SIZE - inChunk);
      const chunk = this.writable((at - inChunk) / CHUNK_SIZE);
      chunk.set(source.subarray(start + done, start + done + count), inChunk);
      done += count;
    }
  }

  /** Sets the size; growth reads as zeros. */
  truncate(size: number): void {
    if (size < this.length) {
      const kept = Math.ceil(size / CHUNK_SIZE);
      this.chunks.length = Math.min(kept, this.chunks.length);
      this.owned.length = Math.min(kept, this.owned.length);
      if (size % CHUNK_SIZE !== 0 && this.chunks[kept - 1] !== undefined)
        this.writable(kept - 1).fill(0, size % CHUNK_SIZE);
    }
    this.length = size;
  }

  private writable(index: number): Uint8Array {
    const chunk = this.chunks[index];
    if (chunk !== undefined && this.owned[index] === true) return chunk;
    const own = chunk === undefined ? new Uint8Array(CHUNK_SIZE) : new Uint8Array(chunk);
    this.chunks[index] = own;
    this.owned[index] = true;
    return own;
  }
}
