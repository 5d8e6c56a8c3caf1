import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Stage } from './stage.ts';

/** Only the real control plane brings a kubectl. */
describe('kubectl mesh', () => {
  const stage = new Stage();
  let reader: string;

  beforeAll(async () => {
    await stage.open();
    await stage.shard('0000', 'Active', 'node-1');
    reader = await stage.kubeconfig('reader', 'meshkit-shards-reader');
  });

  afterAll(() => stage.close());

  it('is found by kubectl as a plugin', async () => {
    const { code, stdout, stderr } = await stage.run('kubectl mesh shards list -o name', {
      KUBECONFIG: reader,
    });
    expect({ code, stdout, stderr }).toEqual({
      code: 0,
      stdout: 'shardassignment.meshkit.omnirelay.io/orders.0000\n',
      stderr: '',
    });
  });

  it('speaks of itself by that name, and hands its exit codes on', async () => {
    const help = await stage.run('kubectl mesh shards list --help');
    expect(help.stdout).toMatch(/^Usage: kubectl mesh shards list/);
    expect((await stage.run('kubectl mesh shards nope', { KUBECONFIG: reader })).code).toBe(2);
    expect((await stage.run('kubectl mesh shards get nope', { KUBECONFIG: reader })).code).toBe(4);
  });

  it('tells the truth in its refusals: the check that it names says no, and yes once the grant that it names is run', async () => {
    await stage.startApi();
    const leaver = await stage.kubeconfig('asker');
    const refused = await stage.run('kubectl mesh shards list --mode api', { KUBECONFIG: leaver });
    expect(refused.code).toBe(3);
    const [, check] = /check it: +(.*)/.exec(refused.stderr) ?? [];
    const [, grant] = /grant it: +(.*)/.exec(refused.stderr) ?? [];
    const admin = { KUBECONFIG: stage.adminKubeconfig };
    expect((await stage.run(check ?? '', admin)).stdout).toBe('no\n');
    expect((await stage.run(grant ?? '', admin)).code).toBe(0);
    expect((await stage.run(check ?? '', admin)).stdout).toBe('yes\n');
  });
});
