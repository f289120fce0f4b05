/** Says on stderr what is being waited for, once it has taken longer than a second. */
export async function withProgress<Result>(what: string, work: Promise<Result>): Promise<Result> {
  const timer = setTimeout(() => process.stderr.write(`lsnfs: ${what} …\n`), 1000);
  try {
    return await work;
  } finally {
    clearTimeout(timer);
  }
}

/**
 * A line on stderr that changes while work goes on; when stderr is no terminal, and it is asked for all the same, a
 * line each time, at most two a second.
 */
export class ProgressLine {
  private readonly isTerminal = process.stderr.isTTY === true;
  private readonly isShown: boolean;
  private shown = '';
  private nextMs = 0;

  constructor(forced: boolean) {
    this.isShown = forced || this.isTerminal;
  }

  show(text: string): void {
    const now = performance.now();
    if (!this.isShown || text === this.shown || now < this.nextMs) return;
    this.nextMs = now + (this.isTerminal ? 100 : 500);
    process.stderr.write(this.isTerminal ? `\r\x1b[K${text}` : `${text}\n`);
    this.shown = text;
  }

  /** Takes the line away. */
  end(): void {
    if (this.isTerminal && this.shown !== '') process.stderr.write('\r\x1b[K');
    this.shown = '';
  }
}
