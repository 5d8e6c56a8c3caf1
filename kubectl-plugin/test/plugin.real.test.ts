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

  it('tells who may only read whether an operator works', async () => {
    const status = () => stage.run('kubectl mesh shards status', { KUBECONFIG: reader });
    await stage.led(new Date(), async () => {
      const { code, stdout } = await status();
      expect(stdout).toMatch(/^OPERATOR +operator-of-a-test leads, last heard of \d+s ago$/m);
      expect(code).toBe(0);
    });
    await stage.led(new Date(Date.now() - 3_600_000), async () => {
      const { code, stdout } = await status();
      expect(stdout).toMatch(/^BAD +no operator works$/m);
      expect(code).toBe(1);
    });
    // Of another Lease nothing is known, but how to be told of it.
    const other = '--lease-namespace meshkit-system --lease-name another';
    const blind = await stage.run(`kubectl mesh shards status ${other}`, { KUBECONFIG: reader });
    const [, grant = ''] = /may not read Lease another .*; grant it: (.*)/.exec(blind.stdout) ?? [];
    const admin = { KUBECONFIG: stage.adminKubeconfig };
    expect(await stage.run(grant, admin)).toMatchObject({ code: 0 });
    const told = await stage.run(`kubectl mesh shards status ${other}`, { KUBECONFIG: reader });
    expect(told.stdout).toContain('there is no Lease another');
    await stage.run('kubectl delete role,rolebinding lease-another -n meshkit-system', admin);
  });

  it('is asked by kubectl for completions', async () => {
    const complete = async (words: string) =>
      (await stage.run(`kubectl __complete mesh shards ${words}`, { KUBECONFIG: reader })).stdout.split('\n');
    expect(await complete("get ''")).toEqual(expect.arrayContaining(['orders.0000']));
    expect(await complete('sim')).toEqual(expect.arrayContaining([expect.stringMatching(/^simulate\t/)]));
    expect(await complete('list --status Dr')).toEqual(expect.arrayContaining(['Draining']));
  });

  it('says with file and line what kube-apiserver has against a manifest', async () => {
    const author = await stage.kubeconfig('author', 'meshkit-shards-observer');
    const verbs = ['get', 'list', 'create', 'patch', 'update'];
    await stage.allow('author', [
      { apiGroups: ['meshkit.omnirelay.io'], resources: ['shardassignments', 'shardsets'], verbs },
    ]);
    const head = 'apiVersion: meshkit.omnirelay.io/v1alpha1\nkind: ShardAssignment\nmetadata:\n';
    const pin = `${head}  name: orders.0000\nspec:\n  shardSet: orders\n  shardId: "0000"\n  owner: {pinned: node-2}\n`;
    stage.file('pin.yaml', `# somebody wants it elsewhere\n${pin}`);
    for (const verb of ['diff', 'simulate']) {
      const line = `kubectl mesh shards ${verb} -f ${stage.folder}/pin.yaml`;
      const { code, stdout, stderr } = await stage.run(line, { KUBECONFIG: author });
      expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
      expect(stderr).toMatch(/pin\.yaml:2: ShardAssignment t-\w+\/orders\.0000: .*missing verb operate/);
    }
    // What the policies let pass, with nothing written by it.
    stage.file('ticket.yaml', pin.replace('owner: {pinned: node-2}', 'changeTicket: CHG-1'));
    const ticket = `kubectl mesh shards diff -f ${stage.folder}/ticket.yaml --exit-code`;
    const diff = await stage.run(ticket, { KUBECONFIG: author });
    expect(diff).toMatchObject({ code: 1, stderr: '' });
    expect(diff.stdout).toMatch(/Changed +ShardAssignment \S+ +spec\.changeTicket +- +CHG-1/);
    expect((await stage.run(ticket, { KUBECONFIG: author })).code).toBe(1);
  });

  it('says so, too, where only kube-apiserver can know: by CEL that looks at the object as it is', async () => {
    const author = await stage.kubeconfig('changer', 'meshkit-shards-operator');
    await stage.allow('changer', [
      { apiGroups: ['meshkit.omnirelay.io'], resources: ['shardassignments'], verbs: ['create', 'patch'] },
    ]);
    const spec = 'spec:\n  shardSet: orders\n  shardId: "0000"\n';
    const manifest = (metadata: string) =>
      `# from a backup\napiVersion: meshkit.omnirelay.io/v1alpha1\nkind: ShardAssignment\nmetadata:\n  name: orders.0000\n${metadata}${spec}`;
    const released = (epoch: number) =>
      manifest(`  annotations:\n    meshkit.omnirelay.io/released: node-1/${epoch}\n`);
    stage.file('old.yaml', released(7));
    // What no schema of ours says, with the line of the field that kube-apiserver names.
    stage.file('label.yaml', manifest('  labels:\n    team: not a label\n'));
    stage.file('now.yaml', released(1_795_000_000));
    for (const verb of ['diff', 'simulate']) {
      const run = (file: string) =>
        stage.run(`kubectl mesh shards ${verb} -f ${stage.folder}/${file}`, { KUBECONFIG: author });
      const old = await run('old.yaml');
      expect(old).toMatchObject({ code: 2, stdout: '' });
      expect(old.stderr).toMatch(
        /old\.yaml:2: ShardAssignment t-\w+\/orders\.0000: .*released must be node-1\/1795000000 .*, not node-1\/7/,
      );
      const label = await run('label.yaml');
      expect(label).toMatchObject({ code: 2, stdout: '' });
      expect(label.stderr).toMatch(/label\.yaml:6: ShardAssignment t-\w+\/orders\.0000: metadata\.labels/);
      // It is about the epoch: the right one is let through.
      if (verb === 'diff') expect(await run('now.yaml')).toMatchObject({ code: 0, stderr: '' });
    }
  });

  it.each(['api', 'direct'])(
    'tells the truth in its refusals: the check that it names says no, and yes once the grant that it names is run (%s)',
    async (mode) => {
      if (stage.server === '') await stage.startApi();
      const leaver = await stage.kubeconfig(`asker-${mode}`);
      const list = `kubectl mesh shards list --mode ${mode}`;
      const refused = await stage.run(list, { KUBECONFIG: leaver });
      expect(refused.code).toBe(3);
      const [, check] = /check it: +(.*)/.exec(refused.stderr) ?? [];
      const [, grant] = /grant it: +(.*)/.exec(refused.stderr) ?? [];
      const admin = { KUBECONFIG: stage.adminKubeconfig };
      expect((await stage.run(check ?? '', admin)).stdout).toBe('no\n');
      expect((await stage.run(grant ?? '', admin)).code).toBe(0);
      expect((await stage.run(check ?? '', admin)).stdout).toBe('yes\n');
      // The API server remembers a no for 10 s.
      const code = async () => (await stage.run(list, { KUBECONFIG: leaver })).code;
      await expect.poll(code, { timeout: 20_000, interval: 1_000 }).toBe(0);
    },
  );
});
