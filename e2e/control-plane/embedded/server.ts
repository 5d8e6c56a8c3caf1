import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import type { AuditEntry } from '../control-plane.ts';
import type { Cluster } from './cluster.ts';
import { discover, REVIEWS } from './discovery.ts';
import type { Identities } from './identity.ts';
import { encodeList, forbiddenMatch, listPage, matcher, resourceVersionOf } from './list.ts';
import { cannot, decide, RBAC_GROUP, type UserInfo } from './rbac.ts';
import { type Call, deleteOptions, parseCall, readObject, readPatch, writeOptions } from './request.ts';
import type { Target } from './resources.ts';
import { reviewAccess } from './reviews.ts';
import { badRequest, forbidden, notFound, notImplemented, type Status, StatusError } from './status.ts';
import type { Stored } from './store.ts';
import { tableOf } from './table.ts';
import { serveWatch } from './watch.ts';

const MOST_AUDIT_ENTRIES = 200_000;
/** A longer one would fire at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;
const NOWHERE: Answer = { code: 404, body: '404 page not found\n' };

interface Answer {
  code: number;
  /** A string that does not start with `{` is sent as text. */
  body: object | string;
}

interface Exchange {
  call: Call;
  user: UserInfo;
  request: IncomingMessage;
  response: ServerResponse;
  warnings: string[];
  /** The client wants to print. */
  table: boolean;
}

/** The API: authenticates, authorizes, routes by the closed table, answers, and remembers who asked what. */
export class ApiServer {
  readonly audit: AuditEntry[] = [];
  readonly #cluster: Cluster;
  readonly #identities: Identities;
  readonly #version: string;

  constructor(cluster: Cluster, identities: Identities, version: string) {
    this.#cluster = cluster;
    this.#identities = identities;
    this.#version = version;
  }

  /** Never rejects: what goes wrong is answered, or ends the connection. */
  async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const at = Date.now();
    const call = parseCall(request.method ?? 'GET', request.url ?? '/');
    if (!call) {
      response.writeHead(400).end();
      return;
    }
    const nobody = { username: '', groups: [] };
    const exchange: Exchange = { call, user: nobody, request, response, warnings: [], table: false };
    try {
      exchange.user = this.#identities.authenticate(request);
      const impersonating = Object.keys(request.headers).some((name) => name.startsWith('impersonate-'));
      if (impersonating) throw notImplemented('impersonation');
      this.#authorize(exchange);
      const answer = await this.#answer(exchange);
      if (answer) this.#send(exchange, at, answer);
      else response.once('close', () => this.#record(exchange, at, 200));
    } catch (error) {
      const internal = new StatusError(500, 'InternalError', `Internal error occurred: ${error}`);
      const { body } = error instanceof StatusError ? error : internal;
      if (response.headersSent) response.destroy();
      else this.#send(exchange, at, { code: body.code, body });
    }
  }

  #send(exchange: Exchange, at: number, { code, body }: Answer): void {
    const { request, response, warnings } = exchange;
    const text = typeof body === 'string' ? body : JSON.stringify(body);
    const type = text.startsWith('{') ? 'application/json' : 'text/plain; charset=utf-8';
    const { retryAfterSeconds } = (body as Partial<Status>).details ?? {};
    const headers: OutgoingHttpHeaders = { 'content-type': type, 'content-length': Buffer.byteLength(text) };
    if (retryAfterSeconds) headers['retry-after'] = String(retryAfterSeconds);
    if (warnings.length > 0)
      headers.warning = warnings.map((one) => `299 - ${JSON.stringify(one)}`).join(', ');
    this.#record(exchange, at, code);
    response.writeHead(code, headers).end(request.method === 'HEAD' ? undefined : text);
  }

  #record({ call, user }: Exchange, at: number, code: number): void {
    const { verb, group, resource, subresource, dryRun } = call;
    const [namespace, name] = [call.namespace || undefined, call.name || undefined];
    const what = { verb, group, resource, subresource, namespace, name };
    this.audit.push({ user: user.username, ...what, dryRun, code, at });
    if (this.audit.length > MOST_AUDIT_ENTRIES) this.audit.splice(0, MOST_AUDIT_ENTRIES / 2);
  }

  #authorize({ user, call }: Exchange): void {
    if (decide(this.#cluster.store, user, call).allowed) return;
    const why = cannot(user, call);
    if (call.path !== undefined) throw new StatusError(403, 'Forbidden', `forbidden: ${why}`, {});
    throw forbidden({ group: call.group, plural: call.resource }, call.name, why);
  }

  /** Undefined when the answer streams. */
  async #answer(exchange: Exchange): Promise<Answer | undefined> {
    const { call } = exchange;
    if (call.path !== undefined) return this.#nonResource(call.path, call.verb);
    const review = REVIEWS.find(({ group, plural }) => group === call.group && plural === call.resource);
    if (review) return this.#review(exchange, review.kind);
    if (call.group === 'admissionregistration.k8s.io') throw notImplemented('admission policies');
    const kind = this.#cluster.kinds.find(
      ({ group, version, plural }) =>
        plural === call.resource && group === call.group && version === call.version,
    );
    if (!kind) return NOWHERE;
    const namespace = kind.namespaced ? call.namespace : '';
    const collective = call.verb === 'list' || call.verb === 'watch';
    const misplaced = kind.namespaced
      ? !namespace && !collective
      : call.namespace && call.resource !== 'namespaces';
    if (misplaced) return NOWHERE;
    const target: Target = { kind, namespace, name: call.name, subresource: call.subresource };
    const part = call.subresource;
    if (part === 'token' && call.resource === 'serviceaccounts') return this.#token(exchange, target);
    if (part && !(part === 'status' && kind.status)) {
      throw kind.custom ? notFound(kind, call.name) : noSuchResource();
    }
    return this.#resource(exchange, target);
  }

  #nonResource(path: string, verb: string): Answer {
    if (verb !== 'get') return NOWHERE;
    if (/^\/(healthz|livez|readyz)$/.test(path)) return { code: 200, body: 'ok' };
    const [major, minor] = this.#version.replace('v', '').split('.');
    const version = { major, minor, gitVersion: this.#version, platform: 'embedded' };
    if (path === '/version') return { code: 200, body: version };
    if (path === '/openapi/v2') throw notImplemented('OpenAPI v2, which kubectl wants for `kind: List`');
    const body = discover(path, this.#cluster.kinds);
    return body ? { code: 200, body } : NOWHERE;
  }

  async #resource(exchange: Exchange, target: Target): Promise<Answer | undefined> {
    const { call, request, warnings } = exchange;
    const { kind, subresource } = target;
    exchange.table = wantsTable(request);
    const { resources } = this.#cluster;
    const shown = (code: number, object: Stored) => ({ code, body: this.#shown(exchange, target, object) });
    const known = subresource ? ['get', 'update', 'patch'] : undefined;
    if (call.verb === '' || known?.includes(call.verb) === false) throw methodNotAllowed(target, call.verb);
    if (call.verb === 'get') return shown(200, resources.get(target).object);
    if (call.verb === 'list') return this.#list(exchange, target);
    if (call.verb === 'watch') return this.#watch(exchange, target);
    if (call.verb.startsWith('delete')) return this.#delete(exchange, target);
    if ((call.verb === 'create') === (call.name !== '')) {
      throw kind.custom ? badRequest('name must be provided') : methodNotAllowed(target, call.verb);
    }
    const options = writeOptions(call, request, warnings);
    this.#refuseEscalation(exchange);
    if (call.verb === 'patch') {
      return shown(200, resources.patch(target, await readPatch(request, kind), options));
    }
    const body = await readObject(request, kind.kind);
    if (call.verb === 'create') {
      const object = resources.create(target, body, options);
      call.name = object.metadata.name;
      return shown(201, object);
    }
    const { object, created } = resources.replace(target, body, options);
    return shown(created ? 201 : 200, object);
  }

  /** The real server lets nobody hand out rights beyond their own; this one cannot tell, and asks for the verb that allows it. */
  #refuseEscalation({ user, call }: Exchange): void {
    if (call.group !== RBAC_GROUP) return;
    const [verb, resource] = call.resource.endsWith('bindings')
      ? ['bind', 'clusterroles']
      : ['escalate', call.resource];
    const wanted = { ...call, verb, resource };
    if (decide(this.#cluster.store, user, wanted).allowed) return;
    throw notImplemented('privilege escalation checks, which users without the verbs bind and escalate need');
  }

  #list({ call, table }: Exchange, { kind, namespace }: Target): Answer {
    const page = listPage(this.#cluster.store, kind, namespace, call.query);
    if (!table) return { code: 200, body: encodeList(kind, page) };
    const objects = page.entries.map(({ object }) => object);
    return { code: 200, body: tableOf(kind, objects, page.metadata, call.query.get('includeObject')) };
  }

  #shown({ call, table }: Exchange, { kind }: Target, object: Stored): object {
    if (!table) return object;
    const { resourceVersion } = object.metadata;
    return tableOf(kind, [object], { resourceVersion }, call.query.get('includeObject'));
  }

  #watch({ call: { query }, response, table }: Exchange, { kind, namespace }: Target): undefined {
    const version = resourceVersionOf(query, true);
    // The words of a server without the feature; clients then list and watch.
    const unknown = 'sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled';
    if (query.has('sendInitialEvents')) throw forbiddenMatch(unknown);
    // Without a wish, the real server picks between 30 and 60 minutes.
    const seconds = Number(query.get('timeoutSeconds') ?? 0) || 1800 + Math.floor(Math.random() * 1800);
    const include = query.get('includeObject');
    const render = (object: Stored, first: boolean) =>
      tableOf(kind, [object], { resourceVersion: object.metadata.resourceVersion }, include, first);
    const { matches } = matcher(kind, query);
    const bookmarks = query.get('allowWatchBookmarks') === 'true';
    const timeoutMs = Math.min(seconds * 1000, LONGEST_TIMER_MS);
    const since = version === 0 ? undefined : version;
    const asked = {
      kind,
      namespace,
      matches,
      version: since,
      bookmarks,
      timeoutMs,
      render: table ? render : undefined,
    };
    serveWatch(this.#cluster.store, asked, response);
    return undefined;
  }

  async #delete({ call, request }: Exchange, target: Target): Promise<Answer> {
    const { kind, namespace } = target;
    const { preconditions = {}, dryRun } = await deleteOptions(call, request);
    const { store, resources } = this.#cluster;
    call.dryRun = dryRun;
    if (call.verb === 'deletecollection') {
      const page = listPage(store, kind, namespace, call.query);
      for (const { object } of page.entries) {
        resources.remove({ ...target, name: object.metadata.name }, preconditions, dryRun);
      }
      return { code: 200, body: encodeList(kind, page) };
    }
    const object = resources.remove(target, preconditions, dryRun);
    if (kind.returnsDeleted) return { code: 200, body: object };
    const { name, uid } = object.metadata;
    const details = { name, group: kind.group || undefined, kind: kind.plural, uid };
    const body = { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', details };
    return { code: 200, body };
  }

  async #token({ call, request }: Exchange, target: Target): Promise<Answer> {
    if (call.verb !== 'create') throw methodNotAllowed(target, call.verb);
    const { object } = this.#cluster.resources.get(target);
    return { code: 201, body: this.#identities.issue(object, await readObject(request, 'TokenRequest')) };
  }

  async #review({ call, request, user }: Exchange, kind: string): Promise<Answer> {
    if (call.name) throw noSuchResource();
    if (call.verb !== 'create') throw methodNotAllowed(undefined, call.verb);
    const body = await readObject(request, kind);
    if (kind === 'TokenReview') return { code: 201, body: this.#identities.review(body) };
    if (kind !== 'SelfSubjectReview') {
      const self = kind.startsWith('Self') ? user : undefined;
      return { code: 201, body: reviewAccess(this.#cluster.store, self, body) };
    }
    const apiVersion = 'authentication.k8s.io/v1';
    return { code: 201, body: { kind, apiVersion, metadata: {}, status: { userInfo: user } } };
  }
}

function noSuchResource(): StatusError {
  return new StatusError(404, 'NotFound', 'the server could not find the requested resource', {});
}

/** Custom resources say which verb, everything else does not. */
function methodNotAllowed(target: Target | undefined, verb: string): StatusError {
  const generic = 'the server does not allow this method on the requested resource';
  if (!target?.kind.custom) return new StatusError(405, 'MethodNotAllowed', generic, {});
  const { bucket, group, plural } = target.kind;
  const message = `${verb} is not supported on resources of kind "${bucket}"`;
  return new StatusError(405, 'MethodNotAllowed', message, { group, kind: plural });
}

/** Whether a Table is what the client likes best; throws 406 when it accepts nothing that this server has. */
function wantsTable(request: IncomingMessage): boolean {
  for (const accepted of (request.headers.accept ?? '*/*').split(',')) {
    const [type = '', ...parameters] = accepted.split(';').map((part) => part.trim());
    const as = parameters.find((parameter) => parameter.startsWith('as='));
    if (as === 'as=Table' && parameters.includes('v=v1')) return true;
    if (!as && ['application/json', 'application/*', '*/*'].includes(type)) return false;
  }
  const message = 'only the following media types are accepted: application/json';
  throw new StatusError(406, 'NotAcceptable', message);
}
