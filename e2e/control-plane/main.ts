import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { holdPlane, runningPlane, startInBackground, stopInBackground } from './background.ts';
import { binarySettings, findBinaries } from './binaries.ts';
import { ensureBinaries } from './ensure-binaries.ts';
import { planeChoice, startControlPlane } from './start.ts';
import { parseVersion } from './versions.ts';

const USAGE = `Usage: npm run control-plane -- <command> [options]

  fetch   download, or build from source, the binaries of a real control plane; prints their folder
  start   start a control plane in the background; prints the path of its administrator's kubeconfig
  stop    stop it: its processes end and its folder is removed
  path    print the folder of the binaries

  --version v1.37.2              another Kubernetes release
  --control-plane real|embedded  what \`start\` starts (default real)
  --no-build                     \`fetch\` only downloads

Environment: KUBEBUILDER_ASSETS (a folder with etcd, kube-apiserver, kube-controller-manager, kubectl),
XDG_CACHE_HOME, MESHKIT_ENVTEST_INDEX and MESHKIT_KUBERNETES_RELEASES (mirrors).
`;

class UsageError extends Error {}

const settings = binarySettings(process.env);
const stateFile = join(dirname(settings.cache), 'control-plane.json');
const say = (line: string) => void process.stderr.write(`${line}\n`);
const print = (line: string) => void process.stdout.write(`${line}\n`);

type Options = ReturnType<typeof parse>['values'];

function parse() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        version: { type: 'string' },
        'control-plane': { type: 'string', default: 'real' },
        'no-build': { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

async function fetch({ version, 'no-build': noBuild }: Options): Promise<void> {
  const stop = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const)
    process.once(name, () => stop.abort(new Error(`stopped by ${name}`)));
  const binaries = await ensureBinaries({
    settings,
    version,
    build: !noBuild,
    log: say,
    signal: stop.signal,
  });
  say(`Kubernetes ${binaries.version} is at hand (${binaries.source}).`);
  print(binaries.folder);
}

async function start({ version, 'control-plane': choice }: Options): Promise<void> {
  const kind = planeChoice(choice);
  if (kind === 'auto') throw new UsageError('start: --control-plane is real or embedded');
  await mkdir(dirname(stateFile), { recursive: true });
  const running = await runningPlane(stateFile);
  if (running) {
    say(
      `A control plane (${running.kind} ${running.version}, process ${running.owner.pid}) runs already at ${running.url}.`,
    );
    if (running.kind !== kind) throw new Error('Stop it first: npm run control-plane -- stop');
    return print(running.kubeconfig);
  }
  const plane = await startInBackground({ kind, version, log: say });
  say(
    `It runs in the background as process ${plane.owner.pid}. To use it: export KUBECONFIG=${plane.kubeconfig}`,
  );
  print(plane.kubeconfig);
}

async function stop(): Promise<void> {
  const running = await runningPlane(stateFile);
  if (!running) return say('No control plane runs in the background.');
  await stopInBackground(stateFile, running);
  say(`Stopped the control plane at ${running.url}.`);
}

async function path({ version }: Options): Promise<void> {
  const found = await findBinaries(settings, version);
  const hint = settings.assets ? '' : '\n`npm run control-plane -- fetch` gets them.';
  if (!found.ok) throw new Error(`${found.reason}${hint}`);
  print(found.binaries.folder);
}

/** What `start` runs in the background; not for people. */
function hold({ version, 'control-plane': choice }: Options): Promise<void> {
  return holdPlane({
    stateFile,
    start: (log, signal) =>
      startControlPlane({ kind: planeChoice(choice), version, env: process.env, log, signal }),
  });
}

const COMMANDS: Record<string, (options: Options) => Promise<void>> = { fetch, start, stop, path, hold };

try {
  const { values, positionals } = parse();
  const command = COMMANDS[positionals[0] ?? ''];
  if (values.help) print(USAGE);
  else if (!command || positionals.length > 1)
    throw new UsageError(`expected one command: fetch, start, stop or path`);
  else {
    if (values.version) parseVersion(values.version);
    await command(values);
  }
} catch (error) {
  say(error instanceof Error ? error.message : String(error));
  if (error instanceof UsageError) say(`\n${USAGE}`);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}
