/** Time as an argument, so that tests decide what time it is. */
export interface Clock {
  /** Wall clock, milliseconds since the Unix epoch. For records that people read; never for measuring a wait. */
  now(): number;
  /** Monotonic milliseconds from an arbitrary origin. For deadlines and lease expiry (wall clocks jump). */
  monotonic(): number;
  /** Resolves after `ms`; rejects with the signal's reason when aborted first. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}
