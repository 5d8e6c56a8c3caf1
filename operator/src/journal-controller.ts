import { Backoff } from '@meshkit/crds/backoff';
import { isDamage } from '@meshkit/crds/journal-codec';
import { JournalStore } from '@meshkit/crds/journal-store';
import { isFence } from '@meshkit/crds/journal-swap';
import { listAll } from '@meshkit/crds/kube-client';
import type { Log } from '@meshkit/crds/log';
import { type ReflectorEvent, reflect } from '@meshkit/crds/reflector';
import { NAMESPACES, SHARD_ASSIGNMENTS } from '@meshkit/crds/resource';
import type { Clock } from '@meshkit/shards/clock';
import { ShardError } from '@meshkit/shards/errors';
import type { JournalWriter } from '@meshkit/shards/journal';
import { entryOf, JournalFold, type Remembered } from '@meshkit/shards/journal-fold';
import { compareVersions, type ShardAssignment } from '@meshkit/shards/records';
import { type BufferLimits, JournalBuffer, type PendingBatch } from './journal-buffer.ts';
import type { JournalControllerOptions } from './journal-settings.ts';

const BATCH_MS = 1_000;
const CATCH_UP_MS = 5_000;
const VERIFY_MS = 300_000;
const BUFFER: BufferLimits = { entries: 50_000, bytes: 64 << 20 };
const FIRST_WAIT_MS = 200;
const LONGEST_WAIT_MS = 15_000;
const LIST_TIMEOUT_MS = 30_000;
const APPEND_TIMEOUT_MS = 30_000;
const POLL_MS = 20;

/**
 * Writes every change of every shard down, in order, while this process leads: one instance for a term. It follows the
 * shards from where the journal ends, so that an ordinary change of leader reconstructs nothing; where that history is
 * gone, a list tells what was missed. What cannot be written waits in a bounded buffer; a full one becomes a gap that
 * the next list closes.
 */
export class JournalController {
  readonly #options: JournalControllerOptions;
  readonly #log: Log;
  readonly #buffer: JournalBuffer;
  readonly #caughtUp = Promise.withResolvers<void>();
  #store: JournalWriter | undefined;
  /** The state after everything that was followed, written down or not. */
  #fold: JournalFold | undefined;
  /** Why the journal is not being written, for people. */
  #problem: string | undefined;
  /** Between the sight of a restore and the new lineage nothing is granted; but not for ever, by the monotonic clock. */
  #haltedUntil: number | undefined;
  #isCaughtUp = false;
  #isAwaited = true;
  #isAppending = false;
  #wake: () => void = () => undefined;
  /** Ends the present following: the next one begins with a list. */
  #refollow: AbortController | undefined;
  /** The next list is a repair: what it brings to light is counted. */
  #repairing = false;
  /** The newest marks, by which the state at the position of a list is found again. */
  #marks: { position: string; anchor: string }[] = [];

  constructor(options: JournalControllerOptions) {
    this.#options = options;
    this.#log = options.log;
    this.#buffer = new JournalBuffer(options.settings.buffer ?? BUFFER);
  }

  get halted(): boolean {
    return this.#haltedUntil !== undefined && this.#options.clock.monotonic() < this.#haltedUntil;
  }

  /** It may yet tell who owned a shard: it has not caught up, and nobody knows that there is none. */
  get isAwaited(): boolean {
    return this.#isAwaited;
  }

  get epochFloor(): number {
    return this.#store?.spec.epochFloor ?? 0;
  }

  /** By `namespace/name`. */
  remembered(key: string): Remembered | undefined {
    return this.#fold?.remembered(key);
  }

  unready(): string[] {
    return this.#problem === undefined ? [] : [`the journal is not written: ${this.#problem}`];
  }

  /** A process of ours saw history go back: grants stop until a new lineage has begun. */
  restored(): void {
    const { clock, settings } = this.#options;
    this.#haltedUntil = clock.monotonic() + (settings.catchUpMs ?? CATCH_UP_MS);
    this.#wake();
  }

  /**
   * Resolves when status may be written: the journal has caught up, or could not within its time, since failovers must not
   * wait for ever. First grants wait as long as `isAwaited`.
   */
  async ready(signal: AbortSignal): Promise<void> {
    const { clock, settings } = this.#options;
    const over = new AbortController();
    const limit = clock.sleep(settings.catchUpMs ?? CATCH_UP_MS, AbortSignal.any([signal, over.signal])).then(
      () =>
        this.#log.warn(
          { problem: this.#problem },
          'the journal has not caught up, status is written all the same, but for first grants',
        ),
      // The end of the term, or of this wait.
      () => undefined,
    );
    await Promise.race([limit, this.#caughtUp.promise]);
    over.abort();
  }

  /** Works until aborted, whatever fails. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, random, metrics } = this.#options;
    const backoff = new Backoff({ baseMs: FIRST_WAIT_MS, capMs: LONGEST_WAIT_MS, random });
    while (!signal.aborted) {
      try {
        const store = await this.#takeOver(signal);
        backoff.reset();
        await this.#write(store, signal);
      } catch (error) {
        if (signal.aborted) break;
        this.#failed(error);
        if (isFence(error)) metrics.fenced.inc();
        // Where there cannot be a journal, nobody needs to wait for it.
        if (error instanceof ShardError && error.details.reason === 'noJournal') this.#known();
        const waitMs = backoff.next();
        this.#log.warn({ err: error, waitMs }, 'the journal cannot be written, taking over again');
        await pause(clock, waitMs, signal);
      }
    }
    metrics.writing.set(0);
  }

  /** The one place that knows which store it is. */
  async #takeOver(signal: AbortSignal): Promise<JournalWriter> {
    const { client, settings, witness, metrics, clock, log, highestEpoch } = this.#options;
    const { name, retentionMs, retentionBytes, newLineage } = settings;
    const kube = await client.get(NAMESPACES, { name: 'kube-system' }, { signal });
    const store = await JournalStore.takeOver(
      {
        client,
        name,
        cluster: kube.metadata.uid ?? '',
        retention: { ms: retentionMs, bytes: retentionBytes },
        clock,
        log,
        onWrite: (kind, bytes) => {
          metrics.writes.inc({ kind });
          metrics.written.inc({ kind }, bytes);
        },
        onDamage: () => metrics.damaged.inc(),
      },
      {
        list: (abort) => this.#list(abort),
        // A journal that knows more than the server was written in a history that is gone.
        renews: async (head) => {
          const newest = await this.#newest(signal);
          return witness.renews(head, newest) || isLater(head?.mark.position, newest);
        },
        request: newLineage,
        highestEpoch: highestEpoch(),
      },
      signal,
    );
    const newest = await this.#newest(signal);
    if (isLater(store.spec.mark.position, newest)) await store.restart((abort) => this.#list(abort), signal);
    witness.wrote(store.spec, store.renewed ? newest : undefined);
    this.#store = store;
    this.#buffer.clear();
    this.#isAppending = false;
    this.#restartFold(store.fold);
    this.#tellHead(store);
    this.#problem = undefined;
    log.info({ term: store.spec.term, position: store.spec.mark.position }, 'journal taken over');
    if (this.#haltedUntil !== undefined || store.renewed) {
      this.#haltedUntil = undefined;
      if (store.renewed) metrics.renewed.inc();
      this.#options.onRenewed();
    }
    return store;
  }

  /** One writer's time: following, appending and looking after, until something of it fails. */
  async #write(store: JournalWriter, signal: AbortSignal): Promise<void> {
    const over = new AbortController();
    const end = AbortSignal.any([signal, over.signal]);
    const work = [this.#follow(store, end), this.#append(store, end), this.#catchUp(end), this.#check(end)];
    try {
      await Promise.all(work);
    } finally {
      over.abort();
      await Promise.allSettled(work);
    }
  }

  async #follow(store: JournalWriter, signal: AbortSignal): Promise<void> {
    const { client, namespace, clock, random, log, believed: transform } = this.#options;
    const source = { client, resource: SHARD_ASSIGNMENTS, namespace, clock, random, log, transform };
    let since: string | undefined = this.#fold?.mark.position;
    while (!signal.aborted) {
      this.#refollow = new AbortController();
      const end = AbortSignal.any([signal, this.#refollow.signal]);
      for await (const event of reflect({ ...source, signal: end, since })) {
        if (end.aborted) break;
        if (event.type === 'REPLACED') this.#listed(event.items, event.resourceVersion);
        else if (!this.#take(event)) break;
      }
      since = undefined;
      if (signal.aborted || this.#repairing) continue;
      // The buffer was full. What is known for certain is what is written down; a list tells the rest, once it can be taken.
      const dropped = this.#buffer.clear();
      this.#options.metrics.coalesced.inc(dropped);
      log.error({ dropped }, 'the journal is too far behind, what was not written is found by a list');
      while (!signal.aborted && this.#isAppending) await pause(clock, POLL_MS, signal);
      this.#restartFold(store.fold);
    }
  }

  /** False when there is no room for it. */
  #take(event: Exclude<ReflectorEvent<ShardAssignment>, { type: 'REPLACED' }>): boolean {
    const fold = this.#fold!;
    if (event.type === 'BOOKMARK') {
      fold.advance(event.resourceVersion);
      return true;
    }
    const changes = fold.changesTo(event.object, event.type === 'DELETED');
    const entries = changes.map((change) => entryOf(change, this.#now()));
    if (entries.length > 0) {
      if (!this.#buffer.push(entries)) return false;
      for (const entry of entries) fold.apply(entry);
      this.#noteMark();
      this.#wake();
    } else fold.advance(event.object.metadata.resourceVersion ?? '');
    return true;
  }

  /** The watch's history was gone, or a list was asked for. */
  #listed(items: readonly ShardAssignment[], position: string): void {
    const { metrics, log, witness } = this.#options;
    const fold = this.#fold!;
    const from = fold.mark.position;
    if (compareVersions(position, from) < 0) {
      witness.restored();
      throw new ShardError(
        'unavailable',
        `the server is at position ${position}, the journal was at ${from}`,
        {
          reason: 'journalWentBack',
        },
      );
    }
    const changes = fold.changesToList(items, position);
    // What should have been known before was missed by the watch: it becomes known with the list.
    const late = changes.filter((change) => compareVersions(change.position, from) <= 0);
    const isLate = new Set(late);
    const tail = changes.filter(({ position: at }) => at === position).length;
    const moved = late.map((change, at) => ({ ...change, position, ordinal: tail + at }));
    const entries = [...changes.filter((change) => !isLate.has(change)), ...moved].map((change) =>
      entryOf(change, this.#now()),
    );
    const repaired = this.#repairing ? entries.length : late.length;
    if (repaired > 0) {
      if (late.length > 0 && position === from)
        throw new ShardError('unavailable', 'the repair of the journal needs a later list');
      metrics.repaired.inc(repaired);
      log.error({ changes: repaired }, 'the journal differed from the shards, it was repaired');
    }
    this.#repairing = false;
    if (entries.length === 0) {
      fold.advance(position);
      return;
    }
    for (const { coalesced = 0 } of entries) if (coalesced > 0) metrics.coalesced.inc(coalesced);
    for (const entry of entries) fold.apply(entry);
    fold.advance(position);
    this.#noteMark();
    this.#buffer.pushGap({ entries, gap: { from, to: position }, position });
    log.info({ changes: entries.length, from, to: position }, 'changes that nobody saw were found by a list');
    this.#wake();
  }

  async #append(store: JournalWriter, signal: AbortSignal): Promise<void> {
    const { clock, settings } = this.#options;
    const verifyMs = settings.verifyMs ?? VERIFY_MS;
    let verifyAt = clock.monotonic() + verifyMs;
    while (!signal.aborted) {
      this.#checkHistory();
      if (this.#buffer.entries === 0) {
        await this.#idle(verifyAt - clock.monotonic(), signal);
        if (clock.monotonic() < verifyAt || this.#buffer.entries > 0) continue;
        verifyAt = clock.monotonic() + verifyMs;
        await this.#beside('verify', () => store.verify(signal), signal);
        this.#tellHead(store);
        continue;
      }
      const due = clock.monotonic() + (settings.batchMs ?? BATCH_MS);
      const isWaiting = () => this.#isCaughtUp && !this.#buffer.isUrgent && this.#haltedUntil === undefined;
      while (isWaiting() && clock.monotonic() < due && !signal.aborted)
        await this.#idle(due - clock.monotonic(), signal);
      this.#checkHistory();
      const batch = this.#buffer.shift();
      if (!batch || signal.aborted) continue;
      this.#isAppending = true;
      await this.#appendBatch(store, batch, signal);
      this.#isAppending = false;
      await this.#beside('maintenance', () => store.maintain(signal), signal);
      this.#tellHead(store);
    }
  }

  /** Until it is written down; whoever took over since ends it. */
  async #appendBatch(
    store: JournalWriter,
    { entries, ...rest }: PendingBatch,
    signal: AbortSignal,
  ): Promise<void> {
    const { clock, random, metrics, log } = this.#options;
    const backoff = new Backoff({ baseMs: FIRST_WAIT_MS, capMs: LONGEST_WAIT_MS, random });
    const started = clock.monotonic();
    while (!signal.aborted) {
      this.#checkHistory();
      try {
        await store.append(entries, rest, AbortSignal.any([signal, AbortSignal.timeout(APPEND_TIMEOUT_MS)]));
        this.#problem = undefined;
        metrics.appendSeconds.observe((clock.monotonic() - started) / 1000);
        metrics.count(entries);
        this.#options.witness.wrote(store.spec);
        return;
      } catch (error) {
        if (signal.aborted) return;
        if (isFence(error) || isDamage(error)) throw error;
        metrics.failures.inc();
        this.#failed(error);
        const waitMs = backoff.next();
        log[backoff.failures > 1 ? 'debug' : 'warn'](
          { err: error, waitMs },
          'append failed, will be tried again',
        );
        await pause(clock, waitMs, signal);
      }
    }
  }

  #checkHistory(): void {
    if (this.#haltedUntil === undefined) return;
    throw new ShardError('unavailable', 'history went back, a new lineage has to begin');
  }

  /** Work that may wait: its failure is no reason to stop writing, unless this writer is over. */
  async #beside(what: string, work: () => Promise<void>, signal: AbortSignal): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (isFence(error)) throw error;
      if (!signal.aborted)
        this.#log.warn({ err: error, what }, 'work on the journal failed, will be tried again');
    }
  }

  async #catchUp(signal: AbortSignal): Promise<void> {
    const { clock, position, shards } = this.#options;
    const target = position() ?? '0';
    /** What has to be written down before status may be. */
    let needed: string | undefined;
    let compareAt = clock.monotonic();
    while (!signal.aborted) {
      const fold = this.#fold!;
      let isThere = compareVersions(fold.mark.position, target) >= 0;
      if (!isThere && clock.monotonic() >= compareAt) {
        const started = clock.monotonic();
        isThere = anchorOf(shards()) === fold.mark.anchor;
        // At most a tenth of the time is spent on comparing.
        compareAt = clock.monotonic() + 10 * (clock.monotonic() - started);
      }
      if (isThere) needed ??= fold.mark.position;
      const store = this.#store!;
      const isWritten = needed !== undefined && compareVersions(store.spec.mark.position, needed) >= 0;
      if (needed !== undefined && (isWritten || store.fold.mark.anchor === fold.mark.anchor)) break;
      await pause(clock, POLL_MS, signal);
    }
    if (signal.aborted) return;
    this.#isCaughtUp = true;
    this.#known();
  }

  #known(): void {
    this.#caughtUp.resolve();
    if (!this.#isAwaited) return;
    this.#isAwaited = false;
    this.#options.onKnown();
  }

  /** Now and then: is what was followed what is there? */
  async #check(signal: AbortSignal): Promise<void> {
    const { clock, settings, shards } = this.#options;
    while (!signal.aborted) {
      await pause(clock, settings.verifyMs ?? VERIFY_MS, signal);
      if (signal.aborted) return;
      if (anchorOf(shards()) === this.#fold?.mark.anchor) continue;
      // They follow at their own pace, so a difference says little: a list has a position.
      await this.#beside('comparison', () => this.#compare(signal), signal);
    }
  }

  async #compare(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    const { items, resourceVersion } = await this.#list(signal);
    const listed = anchorOf(items);
    const deadline = clock.monotonic() + CATCH_UP_MS;
    while (!signal.aborted && this.#anchorAt(resourceVersion) !== listed) {
      const isPast = compareVersions(this.#fold!.mark.position, resourceVersion) >= 0;
      if (isPast || clock.monotonic() >= deadline) {
        this.#repairing = true;
        this.#refollow?.abort();
        return;
      }
      await pause(clock, POLL_MS, signal);
    }
  }

  /** Of the state at a position; of the newest where that is older, undefined where it is no longer known. */
  #anchorAt(position: string): string | undefined {
    const mark = this.#fold?.mark;
    if (mark && compareVersions(mark.position, position) <= 0) return mark.anchor;
    return this.#marks.findLast((one) => compareVersions(one.position, position) <= 0)?.anchor;
  }

  #restartFold(fold: JournalFold): void {
    this.#fold = fold.clone();
    this.#marks = [];
    this.#noteMark();
  }

  #noteMark(): void {
    const { position, anchor } = this.#fold!.mark;
    this.#marks.push({ position, anchor });
    if (this.#marks.length > 2 * KEPT_MARKS) this.#marks = this.#marks.slice(-KEPT_MARKS);
    this.#options.metrics.buffered.set(this.#buffer.entries);
  }

  #tellHead(store: JournalWriter): void {
    const { metrics } = this.#options;
    metrics.tellHead(store);
    metrics.buffered.set(this.#buffer.entries);
    metrics.writing.set(this.#problem === undefined ? 1 : 0);
  }

  #failed(error: unknown): void {
    this.#problem = error instanceof Error ? error.message : String(error);
    this.#options.metrics.writing.set(0);
  }

  async #list(signal: AbortSignal): Promise<{ items: ShardAssignment[]; resourceVersion: string }> {
    const { client, namespace, believed } = this.#options;
    const call = { namespace, signal, timeoutMs: LIST_TIMEOUT_MS };
    const { items, resourceVersion } = await listAll(client, SHARD_ASSIGNMENTS, call);
    return { items: items.map(believed), resourceVersion };
  }

  /** By quorum read: positions of the whole cluster. */
  async #newest(signal: AbortSignal): Promise<string> {
    const { client, namespace } = this.#options;
    const { resourceVersion } = await client.list(SHARD_ASSIGNMENTS, { namespace, limit: 1, signal });
    return resourceVersion;
  }

  #now(): string {
    return new Date(this.#options.clock.now()).toISOString();
  }

  /** Until something is to be done, or for so long. */
  async #idle(ms: number, signal: AbortSignal): Promise<void> {
    const woken = new AbortController();
    this.#wake = () => woken.abort();
    await pause(this.#options.clock, Math.max(0, ms), AbortSignal.any([signal, woken.signal]));
    this.#wake = () => undefined;
  }
}

const KEPT_MARKS = 1_000;

function isLater(position: string | undefined, newest: string): boolean {
  return position !== undefined && compareVersions(position, newest) > 0;
}

function anchorOf(records: Iterable<ShardAssignment>): string {
  return JournalFold.listed(records, '0').mark.anchor;
}

async function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  try {
    await clock.sleep(ms, signal);
  } catch (error) {
    // Being woken by the abort is the ordinary end; the caller's loop sees it.
    if (!signal.aborted) throw error;
  }
}
