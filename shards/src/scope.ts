import { ShardError } from './errors.ts';
import { GROUP } from './records.ts';

/**
 * What a caller may do. Each is a verb of Kubernetes RBAC on the resource `shardassignments`, so that
 * Kubernetes decides and `kubectl auth can-i` tells the truth; the bundled ClusterRoles nest (operate includes observe includes read).
 */
export const SCOPES = ['read', 'observe', 'operate'] as const;
export type Scope = (typeof SCOPES)[number];

export const SCOPE_RESOURCE = 'shardassignments';

/** The ClusterRole that grants a scope. */
export const SCOPE_ROLES: Record<Scope, string> = {
  read: 'meshkit-shards-reader',
  observe: 'meshkit-shards-observer',
  operate: 'meshkit-shards-operator',
};

/** What one request touches. */
export interface Target {
  /** Absent: all namespaces. */
  namespace?: string;
  /** One shard; absent: every shard of the namespace. */
  name?: string;
}

/** Who somebody is to the server, and what they may do. */
export interface Access {
  user: string;
  groups: readonly string[];
  /** Absent: in all namespaces. */
  namespace?: string;
  /** One for each of `SCOPES`, in their order. */
  scopes: readonly ScopeAccess[];
}

export interface ScopeAccess {
  /** `mesh.read` */
  scope: string;
  allowed: boolean;
  /** When not allowed: the commands that check it, and grant it. */
  check?: string;
  grant?: string;
}

/** `refusal`: that of `scopeMissing`; absent: allowed. */
export function scopeAccess(scope: Scope, refusal: ShardError | undefined): ScopeAccess {
  if (!refusal) return { scope: `mesh.${scope}`, allowed: true };
  const { check, grant } = refusal.details as { check: string; grant: string };
  return { scope: `mesh.${scope}`, allowed: false, check, grant };
}

const SERVICE_ACCOUNT = /^system:serviceaccount:([^:]+):([^:]+)$/;

/** The refusal of a known user: what is missing, the command that checks it, and the command that grants it. */
export function scopeMissing(user: string, scope: Scope, target: Target): ShardError {
  const { namespace } = target;
  const where = namespace === undefined ? 'all namespaces' : `namespace ${namespace}`;
  const check = checkCommand(user, scope, SCOPE_RESOURCE, namespace);
  const grant = grantCommand(user, scope, namespace);
  const missing = `missing scope mesh.${scope} in ${where} for user ${user}`;
  // Whoever may read one namespace and asks for all has a way out that needs nobody's help: name it first.
  const ways =
    namespace === undefined
      ? `ask for one namespace that you may ${scope} (namespace=NAME, or -n NAME), or have it granted for all: ${grant}`
      : `have it granted: ${grant}`;
  return new ShardError('scopeMissing', `${missing}; check it: ${check}; ${ways}`, {
    scope: `mesh.${scope}`,
    namespace: namespace ?? '',
    ...(target.name === undefined ? {} : { name: target.name }),
    user,
    check,
    grant,
  });
}

/** What Kubernetes itself refused, and to whom. */
export interface RefusedAccess {
  user: string;
  verb: string;
  resource: string;
  group: string;
  /** Absent: all namespaces. */
  namespace?: string;
}

const KINDS = ['shardsets', 'shardassignments', 'meshnodes'];
const LOOK = ['get', 'list', 'watch'];

/** The commands that check and grant a verb of Kubernetes, as for a scope; undefined where no role for people carries it. */
export function accessRemedy(refused: RefusedAccess): { check: string; grant: string } | undefined {
  const { user, verb, resource, group, namespace } = refused;
  if (group !== GROUP || !KINDS.includes(resource)) return undefined;
  return {
    check: checkCommand(user, verb, resource, namespace),
    grant: grantCommand(user, LOOK.includes(verb) ? 'read' : 'operate', namespace),
  };
}

/** As the user runs it; a service account has no shell, so somebody else runs it on its behalf. */
function checkCommand(user: string, verb: string, resource: string, namespace: string | undefined): string {
  const as = SERVICE_ACCOUNT.test(user) ? ` --as ${quoted(user)}` : '';
  const where = namespace === undefined ? '--all-namespaces' : `-n ${quoted(namespace)}`;
  return `kubectl auth can-i ${verb} ${resource}.${GROUP} ${where}${as}`;
}

function grantCommand(user: string, scope: Scope, namespace: string | undefined): string {
  const account = SERVICE_ACCOUNT.exec(user);
  const subject = account
    ? `--serviceaccount=${quoted(`${account[1]}:${account[2]}`)}`
    : `--user=${quoted(user)}`;
  const role = SCOPE_ROLES[scope];
  const name = `${role}-${objectName(account ? `${account[1]}-${account[2]}` : user)}`;
  const [kind, where] =
    namespace === undefined ? ['clusterrolebinding', ''] : ['rolebinding', ` -n ${quoted(namespace)}`];
  return `kubectl create ${kind} ${name} --clusterrole=${role} ${subject}${where}`;
}

/** A word for a shell: user names, for one, are free text, and commands are there to be pasted. */
export function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

function objectName(user: string): string {
  const name = user
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .slice(0, 40)
    .replaceAll(/^-|-$/g, '');
  return name || 'user';
}
