/**
 * Whether one program has the mount for itself, as far as its requests tell: whoever syncs for it on the store thread keeps
 * nobody else waiting. It has when it has waited for the disk before, and nobody else has sent a request since. With several
 * programs the log's writer makes one sync for all of them, and the others go on meanwhile.
 */

/** After so many waits for the disk in a row a program is alone. */
const WAITS = 2;

export class Company {
  /** The thread that sent the last request. */
  private process = 0;
  /** How often it has waited for the disk since another one sent a request. */
  private waits = 0;

  /** A request came; `process` 0: by the kernel itself, for nobody. */
  note(process: number): void {
    if (process === this.process || process === 0) return;
    this.process = process;
    this.waits = 0;
  }

  /** The sender of the last request waits for the disk: whether it is alone. */
  isAlone(): boolean {
    return ++this.waits > WAITS;
  }
}
