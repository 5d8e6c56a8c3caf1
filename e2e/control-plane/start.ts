import { type Binaries, binarySettings } from './binaries.ts';
import type { ControlPlane, ControlPlaneKind, StartOptions } from './control-plane.ts';
import { ensureBinaries } from './ensure-binaries.ts';
import { startReal } from './real.ts';

export interface StartControlPlaneOptions extends StartOptions {
  /** `auto` (the default): `real` when its binaries are at hand or can be downloaded (never built), else `embedded`. */
  kind?: ControlPlaneKind | 'auto';
  /** Where binaries are looked for: pass `process.env`. */
  env: Readonly<Record<string, string | undefined>>;
}

/**
 * Starts a control plane; the caller owns it and has to `stop()` it. `real` and `auto` download binaries that are
 * not at hand; `npm run control-plane -- fetch` is what builds them.
 */
export async function startControlPlane(options: StartControlPlaneOptions): Promise<ControlPlane> {
  const { kind = 'auto', env, ...start } = options;
  if (kind === 'embedded') return startEmbedded(start);
  const log = start.log ?? (() => undefined);
  const ensuring = ensureBinaries({
    settings: binarySettings(env),
    version: start.version,
    build: false,
    log,
    signal: start.signal,
  });
  const binaries = await (kind === 'real' ? ensuring : orUndefined(ensuring, start.signal, log));
  return binaries ? startReal({ ...start, binaries }) : startEmbedded(start);
}

/** `auto` falls back, and says why, rather than fail on a machine without internet. */
async function orUndefined(
  ensuring: Promise<Binaries>,
  signal: AbortSignal | undefined,
  log: (line: string) => void,
): Promise<Binaries | undefined> {
  try {
    return await ensuring;
  } catch (error) {
    signal?.throwIfAborted();
    log(`${error instanceof Error ? error.message : String(error)}
no real control plane, so the embedded one it is`);
    return undefined;
  }
}

/** Imported only when asked for, so that the real plane does not load what it does not use. */
async function startEmbedded(options: StartOptions): Promise<ControlPlane> {
  const { startEmbedded: start } = await import('./embedded/start.ts');
  return start(options);
}

/** Reads `--control-plane`; a wrong value ends the program with one line. */
export function planeChoice(value: string): ControlPlaneKind | 'auto' {
  if (value === 'real' || value === 'embedded' || value === 'auto') return value;
  process.stderr.write(`--control-plane ${value}: use real, embedded or auto\n`);
  process.exit(2);
}
