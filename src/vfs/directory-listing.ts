/**
 * The names that one directory handle has returned, so that every cookie it gave out can be resumed exactly.
 *
 * A cookie is a small number: 1 is ".", 2 is "..", and 3 + i the i-th name of this arena. A listing goes on with
 * the first name greater than the cookie's name, in the directory's present state: what existed all the time is
 * listed once, whatever was created or removed meanwhile. The arena keeps the names in chunks of bytes and their
 * places in a typed array: a name costs its own length, one byte and four more.
 */
const CHUNK_BYTES = 65_536;
const CHUNK_SHIFT = 16;
/** Most directories are small, and so is the first chunk. */
const FIRST_CHUNK_BYTES = 1024;

export const COOKIE_DOT = 1;
export const COOKIE_DOT_DOT = 2;
export const COOKIE_FIRST = 3;

export class DirectoryListing {
  private chunks: Buffer[] = [];
  private chunkUsed = 0;
  private places = new Uint32Array(64);
  private used = 0;

  get count(): number {
    return this.used;
  }

  clear(): void {
    this.chunks = [];
    this.chunkUsed = 0;
    this.places = new Uint32Array(64);
    this.used = 0;
  }

  /** Keeps a copy of the name and returns its index. */
  append(name: Uint8Array): number {
    let chunk = this.chunks[this.chunks.length - 1];
    if (chunk === undefined || this.chunkUsed + 1 + name.length > chunk.length) {
      chunk = Buffer.allocUnsafe(chunk === undefined ? FIRST_CHUNK_BYTES : CHUNK_BYTES);
      this.chunks.push(chunk);
      this.chunkUsed = 0;
    }
    if (this.used === this.places.length) {
      const places = new Uint32Array(this.used * 2);
      places.set(this.places);
      this.places = places;
    }
    const at = this.chunkUsed;
    chunk[at] = name.length;
    chunk.set(name, at + 1);
    this.chunkUsed = at + 1 + name.length;
    this.places[this.used] = ((this.chunks.length - 1) << CHUNK_SHIFT) | at;
    return this.used++;
  }

  /** The name with this index: a view, valid until `clear`. */
  name(index: number): Buffer {
    const place = this.places[index]!;
    const chunk = this.chunks[place >>> CHUNK_SHIFT]!;
    const at = place & (CHUNK_BYTES - 1);
    return chunk.subarray(at + 1, at + 1 + chunk[at]!);
  }

  /** Whether the name with this index exists and equals `name`. */
  equals(index: number, name: Uint8Array): boolean {
    if (index >= this.used) return false;
    const place = this.places[index]!;
    const chunk = this.chunks[place >>> CHUNK_SHIFT]!;
    const at = place & (CHUNK_BYTES - 1);
    if (chunk[at] !== name.length) return false;
    for (let i = 0; i < name.length; i++) if (chunk[at + 1 + i] !== name[i]) return false;
    return true;
  }
}
