import { readdir, readFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { AuditEntry } from './control-plane.ts';

/** The fields read here of an audit.k8s.io/v1 Event. */
interface AuditEvent {
  stage: string;
  verb: string;
  requestURI: string;
  user: { username: string };
  objectRef?: {
    apiGroup?: string;
    resource?: string;
    subresource?: string;
    namespace?: string;
    name?: string;
  };
  responseStatus?: { code?: number };
  requestReceivedTimestamp: string;
}

/** Completed requests in a kube-apiserver audit log (JSON lines) and its rotated siblings, oldest first. */
export async function readAudit(logFile: string, since = 0): Promise<AuditEntry[]> {
  const entries: AuditEntry[] = [];
  for (const file of await logFiles(logFile)) {
    const text = await readFile(file, 'utf8');
    // What follows the last newline is an entry that is still being written.
    for (const line of text.slice(0, text.lastIndexOf('\n') + 1).split('\n')) {
      const entry = line ? parseAuditLine(line) : undefined;
      if (entry && entry.at >= since) entries.push(entry);
    }
  }
  return entries.sort((a, b) => a.at - b.at);
}

/** Undefined for an event that is no completed request. */
export function parseAuditLine(line: string): AuditEntry | undefined {
  const event = JSON.parse(line) as AuditEvent;
  if (event.stage !== 'ResponseComplete') return undefined;
  const { apiGroup = '', resource = '', subresource, namespace, name } = event.objectRef ?? {};
  return {
    user: event.user.username,
    verb: event.verb,
    group: apiGroup,
    resource,
    subresource,
    namespace,
    name,
    dryRun: new URL(event.requestURI, 'https://kubernetes').searchParams.getAll('dryRun').join() === 'All',
    code: event.responseStatus?.code ?? 0,
    at: Date.parse(event.requestReceivedTimestamp),
  };
}

/** kube-apiserver renames a full `audit.log` to `audit-<time>.log`, which sorts before its successor. */
async function logFiles(logFile: string): Promise<string[]> {
  const folder = dirname(logFile);
  const stem = basename(logFile, '.log');
  const names = (await readdir(folder)).filter((name) => name.startsWith(stem) && name.endsWith('.log'));
  return names
    .sort((a, b) => Number(a === `${stem}.log`) - Number(b === `${stem}.log`) || a.localeCompare(b))
    .map((name) => join(folder, name));
}
