import { chmodSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Plugin, rolldown } from 'rolldown';

/**
 * `npm run build:cli`: the CLI as one file, `kubectl-plugin/dist/kubectl-mesh.mjs`, with launchers under the names by which
 * kubectl and people find it. What one run does not need (YAML printing, direct mode, gRPC) lies in the file unrun.
 */
const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const folder = join(root, 'kubectl-plugin', 'dist');

/** The oldest Node that has everything we use. */
const LAUNCHER = `#!/bin/sh
# Runs the bundled program beside this file on the first Node of version 24 or newer.
set -e
self=$0
while [ -L "$self" ]; do
  link=$(readlink "$self")
  case $link in
    /*) self=$link ;;
    *) self=$(dirname "$self")/$link ;;
  esac
done
here=$(dirname "$self")
name=\${0##*/}
node=\${MESHKIT_NODE:-node}
# Inside the project its own Node serves where the system's is too old.
if [ -z "$MESHKIT_NODE" ] && [ -x "$here/../../node_modules/.bin/node" ]; then node=$here/../../node_modules/.bin/node; fi
# What V8 made of the program the first time; a folder that cannot be written is passed over.
if [ -n "$HOME$XDG_CACHE_HOME" ]; then
  NODE_COMPILE_CACHE=\${NODE_COMPILE_CACHE:-\${XDG_CACHE_HOME:-$HOME/.cache}/kubectl-mesh}
  export NODE_COMPILE_CACHE
fi
MESHKIT_CALLED_AS=\${MESHKIT_CALLED_AS:-$name} exec "$node" "$here/kubectl-mesh.mjs" "$@"
`;

const BUILTIN = '\0builtin:';
const LEFT_OUT = '\0left-out';

const startFast: Plugin = {
  name: 'start-fast',
  resolveId: {
    order: 'pre',
    handler(source) {
      // rolldown's own helpers need it before there is a way to wrap modules.
      if (isBuiltin(source) && source !== 'node:module') return `${BUILTIN}${source}`;
      // The CLI speaks REST; gRPC would be half of the file.
      return source.endsWith('/grpc-origin.ts') ? LEFT_OUT : null;
    },
  },
  load(id) {
    if (id === LEFT_OUT) return 'throw new Error("this program has no gRPC");';
    if (!id.startsWith(BUILTIN)) return null;
    // `import` of a builtin module reads each of its exports; some, such as http's WebSocket, load 40 ms of undici then.
    const name = JSON.stringify(id.slice(BUILTIN.length));
    return { code: `module.exports = process.getBuiltinModule(${name});`, moduleType: 'js' };
  },
};

rmSync(folder, { recursive: true, force: true });
const bundle = await rolldown({
  input: join(root, 'kubectl-plugin/src/main.ts'),
  platform: 'node',
  // Optional, large, and loaded only for users of a kind of login that Kubernetes itself has dropped.
  external: ['@kubernetes/client-node'],
  logLevel: 'warn',
  plugins: [startFast],
});
const { output } = await bundle.write({
  file: join(folder, 'kubectl-mesh.mjs'),
  format: 'esm',
  minify: false,
  codeSplitting: false,
});
await bundle.close();
writeFileSync(join(folder, 'kubectl-mesh'), LAUNCHER);
chmodSync(join(folder, 'kubectl-mesh'), 0o755);
symlinkSync('kubectl-mesh', join(folder, 'kubectl_complete-mesh'));
for (const file of output) {
  const bytes = file.type === 'chunk' ? file.code.length : file.source.length;
  process.stderr.write(`kubectl-plugin/dist/${file.fileName} ${Math.round(bytes / 1024)} KiB\n`);
}
