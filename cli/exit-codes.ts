/** What a command's exit status means. */
export const EXIT = {
  done: 0,
  failed: 1,
  usage: 2,
  /** `diff` found differences. */
  differences: 3,
  /** `check` or `scrub` found corruption. */
  corruption: 4,
} as const;
