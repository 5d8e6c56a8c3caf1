import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import type { AuditEntry } from '../control-plane.ts';
import { Access, RBAC } from './access.ts';
import { type Call, checkOptions, parseCall, readBody, viewOf } from './call.ts';
import { bootstrap, customKind, discover, type Kind } from './kinds.ts';
import { create, patch, remove, timestamp, update } from './objects.ts';
import { list, shown, watch } from './reads.ts';
import { isObject, type Json } from './schema.ts';
import { badRequest, notImplemented, refused, StatusError } from './status.ts';
import { type Change, keyOf, Store, type Stored } from './store.ts';

const DEFINITIONS = 'customresourcedefinitions.apiextensions.k8s.io';
const MOST_AUDIT_ENTRIES = 200_000;

interface Answer {
  code: number;
  /** A string that does not start with `{` is sent as text. */
  body: object | string;
}

const NOWHERE: Answer = { code: 404, body: '404 page not found\n' };
/** What only the real one serves: a group, or one of its resources. */
const ELSEWHERE: Record<string, string | undefined> = {
  'admissionregistration.k8s.io': 'admission policies',
  'authorization.k8s.io': 'rules reviews of oneself, which `kubectl auth can-i --list` asks for',
};

/** The API: authenticates, authorizes, routes by the closed table, answers, and remembers who asked what. */
export class ApiServer {
  readonly store = new Store((change) => this.#observe(change));
  readonly audit: AuditEntry[] = [];
  readonly #access: Access;
  readonly #version: string;
  readonly #builtIn: readonly Kind[];
  #kinds: readonly Kind[];

  constructor(adminToken: string, version: string) {
    this.#access = new Access(this.store, adminToken);
    this.#version = version;
    const { kinds, objects } = bootstrap();
    this.#builtIn = kinds;
    this.#kinds = kinds;
    for (const object of objects) this.#create(object);
  }

  /** Never rejects: what goes wrong is answered, or ends the connection. */
  async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const at = Date.now();
    let call: Call;
    try {
      call = parseCall(request);
    } catch {
      response.writeHead(400).end();
      return;
    }
    try {
      call.user = this.#access.authenticate(request);
      if (Object.keys(request.headers).some((name) => name.startsWith('impersonate-')))
        throw notImplemented('impersonation');
      this.#access.authorize(call.user, call);
      const answer = await this.#answer(call, response);
      if (answer) this.#send(call, at, answer, response);
      else response.once('close', () => this.#record(call, at, 200));
    } catch (error) {
      const internal = new StatusError(500, 'InternalError', `Internal error occurred: ${error}`);
      if (response.headersSent) response.destroy();
      else this.#send(call, at, error instanceof StatusError ? error : internal, response);
    }
  }

  #send(call: Call, at: number, { code, body }: Answer, response: ServerResponse): void {
    const text = typeof body === 'string' ? body : JSON.stringify(body);
    const type = text.startsWith('{') ? 'application/json' : 'text/plain; charset=utf-8';
    const headers: OutgoingHttpHeaders = { 'content-type': type, 'content-length': Buffer.byteLength(text) };
    const warnings = call.warnings.map((one) => `299 - ${JSON.stringify(one)}`);
    if (warnings.length > 0 && call.query.get('fieldValidation') !== 'Ignore')
      headers.warning = warnings.join(', ');
    this.#record(call, at, code);
    response.writeHead(code, headers).end(text);
  }

  #record({ user, verb, group, resource, subresource, dryRun, ...call }: Call, at: number, code: number) {
    const [namespace, name] = [call.namespace || undefined, call.name || undefined];
    const what = { verb, group, resource, subresource, namespace, name };
    this.audit.push({ user: user.username, ...what, dryRun, code, at });
    if (this.audit.length > MOST_AUDIT_ENTRIES) this.audit.splice(0, MOST_AUDIT_ENTRIES / 2);
  }

  /** Undefined when the answer streams. */
  async #answer(call: Call, response: ServerResponse): Promise<Answer | undefined> {
    const { verb, path, group, resource, version, namespace, name, subresource: part } = call;
    if (path !== undefined) return this.#nonResource(path, verb);
    const kind = this.#kinds.find(
      (one) => one.plural === resource && one.group === group && one.version === version,
    );
    if (!kind && ELSEWHERE[group]) throw notImplemented(ELSEWHERE[group]);
    const anywhere = verb === 'list' || verb === 'watch';
    if (!kind || (kind.namespaced ? !namespace && !anywhere : namespace && resource !== 'namespaces'))
      return NOWHERE;
    if (!kind.namespaced) call.namespace = '';
    if (kind.review) return this.#review(call, kind);
    if (part === 'token' && kind.kind === 'ServiceAccount') return this.#token(call, kind);
    if (part && !(part === 'status' && kind.status))
      throw kind.custom ? refused('NotFound', kind, name, '%s not found') : noSuchResource();
    if (verb === '' || (part && !['get', 'update', 'patch'].includes(verb))) throw notAllowed(verb, kind);
    call.view = viewOf(call);
    if (verb === 'watch') return void watch(this.store, kind, call, response);
    if (verb === 'list') return { code: 200, body: list(this.store, kind, call) };
    if (verb === 'get') return { code: 200, body: shown(kind, call, this.store.find(kind, call).object) };
    return verb.startsWith('delete') ? this.#delete(call, kind) : this.#write(call, kind);
  }

  #nonResource(path: string, verb: string): Answer {
    if (verb !== 'get') return NOWHERE;
    if (/^\/(healthz|livez|readyz)$/.test(path)) return { code: 200, body: 'ok' };
    // As text, which is all of an answer that kubectl shows here.
    const openApi = notImplemented('OpenAPI (`kubectl apply --validate=false` does without)');
    if (path.startsWith('/openapi')) return { code: openApi.code, body: openApi.message };
    const [major, minor] = this.#version.replace('v', '').split('.');
    const version = { major, minor, gitVersion: this.#version, platform: 'embedded' };
    const body = path === '/version' ? version : discover(path, this.#kinds);
    return body ? { code: 200, body } : NOWHERE;
  }

  async #write(call: Call, kind: Kind): Promise<Answer> {
    const { verb, name, user } = call;
    if ((verb === 'create') === (name !== ''))
      throw kind.custom ? badRequest('name must be provided') : notAllowed(verb, kind);
    checkOptions(call);
    // The real server lets nobody hand out rights beyond their own; this one cannot tell.
    const almighty = { ...call, verb: 'escalate', resource: '*' };
    if (kind.group === RBAC && !this.#access.decide(user, almighty).allowed)
      throw notImplemented('checks against escalation, which all who may not `escalate` everything need');
    const body = await readBody(call, kind);
    const old = this.store.get(kind.bucket, keyOf(call.namespace, name));
    const creates = verb === 'create' || (verb === 'update' && kind.upsert && !old);
    const write = creates ? create : verb === 'update' ? update : patch;
    const object = write(this.store, kind, call, body);
    call.name = object.metadata.name;
    return { code: creates ? 201 : 200, body: shown(kind, call, object) };
  }

  async #delete(call: Call, kind: Kind): Promise<Answer> {
    const sent = await readBody(call);
    if ((sent.kind ?? 'DeleteOptions') !== 'DeleteOptions')
      throw badRequest(`no kind ${sent.kind} is registered`);
    checkOptions(call, sent);
    const { preconditions, dryRun = [] } = sent as { preconditions?: Json; dryRun?: string[] };
    call.dryRun ||= dryRun.length > 0;
    if (call.verb === 'deletecollection') {
      const body = list(this.store, kind, { ...call, view: undefined });
      for (const { metadata } of (JSON.parse(body) as { items: Stored[] }).items) {
        const entry = this.store.find(kind, { ...metadata, namespace: metadata.namespace ?? '' });
        remove(this.store, kind, entry, call.dryRun, preconditions);
      }
      return { code: 200, body };
    }
    const object = remove(this.store, kind, this.store.find(kind, call), call.dryRun, preconditions);
    if (kind.returnsDeleted) return { code: 200, body: object };
    const { name, uid } = object.metadata;
    const details = { name, group: kind.group || undefined, kind: kind.plural, uid };
    const body = { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', details };
    return { code: 200, body };
  }

  async #token(call: Call, kind: Kind): Promise<Answer> {
    if (call.verb !== 'create') throw notAllowed(call.verb, kind);
    const { object } = this.store.find(kind, call);
    const { spec } = await readBody(call);
    const head = { kind: 'TokenRequest', apiVersion: 'authentication.k8s.io/v1', metadata: object.metadata };
    return { code: 201, body: { ...head, ...this.#access.issueToken(object, isObject(spec) ? spec : {}) } };
  }

  async #review(call: Call, kind: Kind): Promise<Answer> {
    if (call.name) throw noSuchResource();
    if (call.verb !== 'create') throw notAllowed(call.verb, kind);
    const body = await readBody(call);
    const spec = isObject(body.spec) ? body.spec : {};
    const reviews: Record<string, () => object> = {
      TokenReview: () => this.#access.reviewToken(spec),
      SubjectAccessReview: () => this.#access.reviewAccess(spec),
      SelfSubjectAccessReview: () =>
        this.#access.reviewAccess({ ...spec, user: call.user?.username, groups: call.user?.groups }),
      SelfSubjectReview: () => ({ userInfo: call.user }),
    };
    const head = { kind: kind.kind, apiVersion: kind.apiVersion, metadata: {} };
    return { code: 201, body: { ...head, spec, status: reviews[kind.kind]?.() } };
  }

  /** What follows from a change by itself. */
  #observe({ type, entry, previous }: Change): void {
    const { bucket, key, object } = entry;
    if (bucket === 'namespaces.' && type === 'ADDED')
      this.#create({ kind: 'ServiceAccount', metadata: { name: 'default' } }, key);
    if (bucket !== DEFINITIONS) return;
    // The instances of a definition go with it.
    if (type === 'DELETED') for (const instance of this.store.list(key, '')) this.store.delete(instance);
    if (object.spec !== previous?.object.spec || type === 'DELETED') {
      const definitions = this.store.list(DEFINITIONS, '').map((one) => customKind(one.object));
      this.#kinds = [...this.#builtIn, ...definitions];
    }
    if (type !== 'ADDED') return;
    const met = { status: 'True', lastTransitionTime: timestamp() };
    const conditions = [
      { ...met, type: 'NamesAccepted', reason: 'NoConflicts' },
      { ...met, type: 'Established', reason: 'InitialNamesAccepted' },
    ];
    const { names, versions } = object.spec as { names: Json; versions: { name: string }[] };
    const status = { acceptedNames: names, conditions, storedVersions: versions.map(({ name }) => name) };
    this.store.put(DEFINITIONS, key, { ...object, status });
  }

  #create(object: Pick<Stored, 'kind' | 'metadata'>, namespace = ''): void {
    const kind = this.#builtIn.find((one) => one.kind === object.kind)!;
    const how = { dryRun: false, manager: 'kube-apiserver', warnings: [] };
    create(this.store, kind, { namespace, name: '', ...how }, { ...object });
  }
}

function noSuchResource(): StatusError {
  return new StatusError(404, 'NotFound', 'the server could not find the requested resource', {});
}

/** Custom resources say which verb, everything else does not. */
function notAllowed(verb: string, { custom, bucket, group, plural }: Kind): StatusError {
  const generic = 'the server does not allow this method on the requested resource';
  const message = custom ? `${verb} is not supported on resources of kind "${bucket}"` : generic;
  return new StatusError(405, 'MethodNotAllowed', message, custom ? { group, kind: plural } : {});
}
