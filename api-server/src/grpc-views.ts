import { type Node, NodeScheduling } from '@meshkit/proto/v1/node';
import {
  type Condition,
  ConditionStatus,
  Phase,
  Shard,
  ShardState,
  type VersionVector as VectorMessage,
} from '@meshkit/proto/v1/shard';
import type { ShardAssignment } from '@meshkit/shards/records';
import type { VersionVector } from '@meshkit/shards/repository';
import { type ConditionView, type NodeView, type ShardView, served } from '@meshkit/shards/shard-view';

/** The views of the API as protobuf messages; member by member the same as their JSON. */

const PHASES: Record<ShardView['phase'], Phase> = {
  Pending: Phase.PENDING,
  Active: Phase.ACTIVE,
  Draining: Phase.DRAINING,
  Paused: Phase.PAUSED,
  Disabled: Phase.DISABLED,
  Lost: Phase.LOST,
};
const STATES: Record<ShardView['state'], ShardState> = {
  Active: ShardState.ACTIVE,
  Paused: ShardState.PAUSED,
  Disabled: ShardState.DISABLED,
};
const CONDITION_STATUSES: Record<ConditionView['status'], ConditionStatus> = {
  True: ConditionStatus.TRUE,
  False: ConditionStatus.FALSE,
  Unknown: ConditionStatus.UNKNOWN,
};
const SCHEDULING: Record<NodeView['scheduling'], NodeScheduling> = {
  Active: NodeScheduling.ACTIVE,
  Cordoned: NodeScheduling.CORDONED,
  Drain: NodeScheduling.DRAIN,
};

export function shardMessage(view: ShardView): Shard {
  const { phase, state, epoch, version, generation, observedGeneration, move, since, conditions } = view;
  return {
    ...view,
    // A phase of a newer CRD than this server knows is better unspecified than a stream broken.
    phase: PHASES[phase] ?? Phase.UNSPECIFIED,
    state: STATES[state] ?? ShardState.UNSPECIFIED,
    epoch: BigInt(epoch),
    version: BigInt(version),
    generation: BigInt(generation),
    observedGeneration: BigInt(observedGeneration),
    move: move && { to: move.to, startedAt: time(move.startedAt), deadline: time(move.deadline) },
    since: time(since),
    conditions: conditions?.map(conditionMessage) ?? [],
  };
}

function conditionMessage({ status, ...rest }: ConditionView): Condition {
  return { ...rest, status: CONDITION_STATUSES[status] ?? ConditionStatus.UNSPECIFIED };
}

/** A text that is no time is left out: the CRD does not check each of them. */
export function time(text: string | undefined): Date | undefined {
  if (text === undefined) return undefined;
  const date = new Date(text);
  return Number.isNaN(date.getTime()) ? undefined : date;
}

export function nodeMessage(view: NodeView): Node {
  return { ...view, scheduling: SCHEDULING[view.scheduling] ?? NodeScheduling.UNSPECIFIED };
}

export function vectorMessage({ lineage, position, namespaces }: VersionVector): VectorMessage {
  return { lineage, position, namespaces };
}

/** The same bytes: grpc-js copies out of Buffers only. */
export function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/**
 * Bytes of shards as field 1 of a message, encoded once for each change: records are replaced, never altered. Such bytes are
 * a GetResponse as they are, and several of them behind each other the shards of a ListResponse.
 */
export class EncodedShards {
  readonly #bytes = new WeakMap<ShardAssignment, Uint8Array>();

  of(record: ShardAssignment): Uint8Array {
    const known = this.#bytes.get(record);
    if (known) return known;
    const bytes = fieldOne(Shard.encode(shardMessage(served(record))).finish());
    this.#bytes.set(record, bytes);
    return bytes;
  }
}

/** Tag of a length-delimited field 1, length, bytes. */
function fieldOne(bytes: Uint8Array): Uint8Array {
  const head = [0x0a];
  let length = bytes.length;
  for (; length > 0x7f; length >>>= 7) head.push((length & 0x7f) | 0x80);
  head.push(length);
  const out = new Uint8Array(head.length + bytes.length);
  out.set(head);
  out.set(bytes, head.length);
  return out;
}
