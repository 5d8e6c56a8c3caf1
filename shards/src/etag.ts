import { xxh64, xxh64Of } from './hash.ts';
import { invalid } from './problem.ts';
import type { ShardAssignment } from './records.ts';
import { fingerprint } from './state-digest.ts';

/** Entity tags by RFC 9110, section 8.8.3. Ours hold no characters that would need care. */

/**
 * Of one shard, strong: `"UID.RESOURCEVERSION.CONTENT.REPRESENTATION"`. It names the very state of the object, so that a
 * later `If-Match` can become the precondition of a Kubernetes update; and what is served of it, because a restored
 * cluster gives out versions a second time.
 */
export function shardEtag(record: ShardAssignment, representation: string): string {
  const { uid = '', resourceVersion = '' } = record.metadata;
  return `"${uid}.${resourceVersion}.${fingerprint(record).hash.toString(36)}.${representation}"`;
}

/**
 * Of a list, weak: a hash over what is served of its records, and over what else shaped the answer (filter, page,
 * representation). Equal content has an equal tag on every replica and after every restart, and changes of other
 * shards leave it as it is; so it holds no position. Versions would not do: after a restore they are given out again.
 */
export function listEtag(records: readonly ShardAssignment[], shapedBy: readonly string[]): string {
  const content = xxh64Of(records.map((record) => fingerprint(record).hash));
  return weakEtag([...shapedBy, content.toString(36)].join('\n'));
}

/** Of any other content: the hash of its text. */
export function weakEtag(text: string): string {
  return `W/"${xxh64(text).toString(36)}"`;
}

/** Whether `If-None-Match` names this tag, so that the caller has the answer already. Compares weakly, as the RFC says. */
export function noneMatch(ifNoneMatch: string | undefined, etag: string): boolean {
  if (ifNoneMatch === undefined) return true;
  if (ifNoneMatch.trim() === '*') return false;
  return !parseTags(ifNoneMatch).some((tag) => opaque(tag) === opaque(etag));
}

/** One state of one object. */
export interface ExactState {
  uid: string;
  resourceVersion: string;
}

/**
 * The states that an `If-Match` allows, `*` for any; undefined without the header. Weak tags never match (RFC 9110,
 * section 13.1.1) and so are left out. Throws `invalidArgument` when it holds no tags at all.
 */
export function parseIfMatch(ifMatch: string | undefined): readonly ExactState[] | '*' | undefined {
  if (ifMatch === undefined) return undefined;
  if (ifMatch.trim() === '*') return '*';
  const tags = parseTags(ifMatch);
  if (tags.length === 0) {
    throw invalid([{ pointer: '/header/if-match', detail: 'holds no entity tag; send the ETag of a GET' }]);
  }
  return tags.flatMap((tag) => {
    const [, uid, resourceVersion] = /^"([^."]+)\.(\d+)\.[^"]*"$/.exec(tag) ?? [];
    return uid !== undefined && resourceVersion !== undefined ? [{ uid, resourceVersion }] : [];
  });
}

function parseTags(header: string): string[] {
  return header.match(/(?:W\/)?"[\x21\x23-\x7e\x80-\xff]*"/g) ?? [];
}

function opaque(tag: string): string {
  return tag.startsWith('W/') ? tag.slice(2) : tag;
}
