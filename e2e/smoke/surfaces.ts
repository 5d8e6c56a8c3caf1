import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { ShardClient } from '@meshkit/client/shard-client';
import type { ShardAssignment } from '@meshkit/shards/records';
import type { ShardView } from '@meshkit/shards/shard-view';
import { projectRoot } from '../start/child.ts';
import type { Product } from '../start/product.ts';

/**
 * What the API, the CLI through the API and the CLI alone say, held against the records in kube-apiserver:
 * each shard once, the same owner and epoch, no node set to Drain among the owners. Returns what differs.
 */
export async function surfacesAgree(
  product: Product,
  namespace: string,
  records: readonly ShardAssignment[],
  signal: AbortSignal,
): Promise<string[]> {
  const truth = lines(
    records.map(({ metadata, status }) => ({
      name: metadata.name,
      owner: status?.owner,
      epoch: status?.epoch ?? 0,
    })),
  );
  const surfaces: [string, Promise<ShardView[]>][] = [
    ['API', fromApi(product, namespace, signal)],
    ['CLI, api mode', fromCli(product, namespace, 'api', signal)],
    ['CLI, direct mode', fromCli(product, namespace, 'direct', signal)],
  ];
  const problems: string[] = [];
  for (const [surface, answer] of surfaces) {
    const said = lines(await answer);
    if (said !== truth) problems.push(`${surface} differs from the records:\n${said}\ninstead of\n${truth}`);
  }
  for (const { metadata, status } of records) {
    if (status?.owner === undefined) problems.push(`${metadata.name} has no owner`);
  }
  return problems;
}

function lines(shards: readonly { name: string; owner?: string; epoch: number }[]): string {
  return shards
    .map(({ name, owner, epoch }) => `${name} ${owner} ${epoch}`)
    .sort()
    .join('\n');
}

async function fromApi(product: Product, namespace: string, signal: AbortSignal): Promise<ShardView[]> {
  const { token, ca } = product.files;
  const client = new ShardClient({
    server: product.apiUrl,
    token: { file: token },
    ca: await readFile(ca, 'utf8'),
  });
  try {
    return await Array.fromAsync(client.list({ namespace }, { signal }));
  } finally {
    await client.close();
  }
}

async function fromCli(
  product: Product,
  namespace: string,
  mode: 'api' | 'direct',
  signal: AbortSignal,
): Promise<ShardView[]> {
  const args = [
    'kubectl-plugin/src/main.ts',
    'shards',
    'list',
    '-n',
    namespace,
    '--mode',
    mode,
    '-o',
    'json',
  ];
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [...args, '--kubeconfig', product.files.kubeconfig],
    { cwd: projectRoot, signal, timeout: 30_000, maxBuffer: 64 * 2 ** 20 },
  );
  return (JSON.parse(stdout) as { items: ShardView[] }).items;
}
