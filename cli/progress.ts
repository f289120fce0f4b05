/** Says on stderr what is being waited for, once it has taken longer than a second. */
export async function withProgress<Result>(what: string, work: Promise<Result>): Promise<Result> {
  const timer = setTimeout(() => process.stderr.write(`lsnfs: ${what} …\n`), 1000);
  try {
    return await work;
  } finally {
    clearTimeout(timer);
  }
}
