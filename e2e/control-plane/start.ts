import { binarySettings, findBinaries } from './binaries.ts';
import type { ControlPlane, ControlPlaneKind, StartOptions } from './control-plane.ts';
import { startReal } from './real.ts';

export interface StartControlPlaneOptions extends StartOptions {
  /** `auto` (the default): `real` when its binaries are at hand or can be downloaded (never built), else `embedded`. */
  kind?: ControlPlaneKind | 'auto';
  /** Where binaries are looked for: pass `process.env`. */
  env: Readonly<Record<string, string | undefined>>;
}

/** Starts a control plane; the caller owns it and has to `stop()` it. */
export async function startControlPlane(options: StartControlPlaneOptions): Promise<ControlPlane> {
  const { kind = 'auto', env, ...start } = options;
  if (kind === 'embedded') return startEmbedded(start);
  const settings = binarySettings(env);
  const found = await findBinaries(settings, start.version);
  if (found.ok) return startReal({ ...start, binaries: found.binaries });
  throw new Error(found.reason);
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
