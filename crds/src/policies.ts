import type { KubeObject } from '@meshkit/shards/records';
import { CHANGED_BY_ANNOTATION, GROUP, RELEASED_ANNOTATION } from '@meshkit/shards/records';
import { MESH_NODES, SHARD_ASSIGNMENTS, SHARD_SETS } from './resource.ts';
import { CHANGED_BY_NAME, OPERATOR_USER } from './roles.ts';

/*
 * Admission in CEL, evaluated inside kube-apiserver: no webhook that could be down. All of it fails closed, and none
 * of it sees a DELETE, so that the garbage collector and the namespace controller are never in its way. Their
 * updates (owner references, finalizers) pass, because they touch neither spec nor our annotations.
 */

/** A ValidatingAdmissionPolicy, a MutatingAdmissionPolicy, or a binding of one. */
export interface AdmissionObject extends KubeObject {
  spec: Record<string, unknown>;
}

interface Validation {
  expression: string;
  /** For where `messageExpression` fails. */
  message: string;
  messageExpression: string;
  reason: 'Forbidden' | 'Invalid';
}

interface Policy {
  name: string;
  /** Plurals, with `/status` for the subresource. */
  resources: string[];
  variables?: Record<string, string>;
}

const ADMISSION = 'admissionregistration.k8s.io/v1';
const LABELS = { 'app.kubernetes.io/part-of': 'meshkit-shards' };
const ALL = [SHARD_SETS.plural, SHARD_ASSIGNMENTS.plural, MESH_NODES.plural];

/**
 * The old object, empty at creation. A map and not an optional, because CEL looks into an optional that comes from a
 * variable and finds nothing, silently.
 */
const BEFORE = "request.operation == 'UPDATE' ? oldObject : {}";

function meshVerb(verb: string): string {
  return `authorizer.group('${GROUP}').resource('${SHARD_ASSIGNMENTS.plural}').namespace(request.namespace).name(request.name).check('${verb}').allowed()`;
}

/** As `3-api` words every refusal: the missing scope, how to check it, how to grant it. CEL that yields a string. */
function missing(verb: 'operate' | 'release', role: string, what: string): string {
  return [
    `'missing verb ${verb} on ${SHARD_ASSIGNMENTS.plural} in namespace ' + request.namespace + ' for user ' + request.userInfo.username`,
    `': ${what} needs it (check: kubectl auth can-i ${verb} ${SHARD_ASSIGNMENTS.plural}.${GROUP} -n ' + request.namespace`,
    `'; grant: kubectl create rolebinding NAME -n ' + request.namespace + ' --clusterrole=${role} --user=' + request.userInfo.username + ')'`,
  ].join(' + ');
}

function validating(policy: Policy, validations: Validation[]): AdmissionObject[] {
  return bound('Validating', policy, { validationActions: ['Deny'] }, { validations });
}

function bound(
  kind: 'Validating' | 'Mutating',
  { name, resources, variables = {} }: Policy,
  binding: object,
  checks: object,
): AdmissionObject[] {
  return [
    {
      apiVersion: ADMISSION,
      kind: `${kind}AdmissionPolicy`,
      metadata: { name, labels: LABELS },
      spec: {
        failurePolicy: 'Fail',
        matchConstraints: {
          resourceRules: [
            {
              apiGroups: [GROUP],
              // Every version, so that a later one is not a way around the policy.
              apiVersions: ['*'],
              operations: ['CREATE', 'UPDATE'],
              resources,
              scope: 'Namespaced',
            },
          ],
        },
        variables: Object.entries(variables).map(([name, expression]) => ({ name, expression })),
        ...checks,
      },
    },
    {
      apiVersion: ADMISSION,
      kind: `${kind}AdmissionPolicyBinding`,
      metadata: { name, labels: LABELS },
      spec: { policyName: name, ...binding },
    },
  ];
}

/** Who owns a shard is the operator's word alone; anybody else says what they want in spec. */
const status = validating(
  { name: 'meshkit-shards-status', resources: ALL.map((plural) => `${plural}/status`) },
  [
    {
      expression: `request.userInfo.username == '${OPERATOR_USER}'`,
      message: 'status is written by the operator only: say in spec what you want',
      messageExpression: `'status of ' + request.resource.resource + ' is written by ${OPERATOR_USER} only, not by ' + request.userInfo.username + ': say in spec what you want (a pin is spec.owner.pinned, a pause is spec.state)'`,
      reason: 'Forbidden',
    },
  ],
);

/** Pins and pauses move or stop work at once, so that they need more than the right to edit. */
const operate = validating(
  {
    name: 'meshkit-shards-operate',
    resources: [SHARD_ASSIGNMENTS.plural],
    variables: {
      before: BEFORE,
      unchanged:
        'object.?spec.?owner == variables.before.?spec.?owner && object.?spec.?state == variables.before.?spec.?state',
    },
  },
  [
    {
      expression: `variables.unchanged || ${meshVerb('operate')}`,
      message: 'setting or changing spec.owner or spec.state needs the verb operate on shardassignments',
      messageExpression: missing(
        'operate',
        'meshkit-shards-operator',
        'setting or changing spec.owner or spec.state',
      ),
      reason: 'Forbidden',
    },
  ],
);

const mark = (object: string) => `${object}.?metadata.?annotations[?'${RELEASED_ANNOTATION}']`;

/** An agent says "I have stopped" of the shard it owns, and can do nothing else to it. */
const release = validating(
  {
    name: 'meshkit-shards-release',
    resources: [SHARD_ASSIGNMENTS.plural],
    variables: {
      before: BEFORE,
      mark: mark('object'),
      sameMark: `variables.mark == ${mark('variables.before')}`,
      annotations: 'object.metadata.?annotations.orValue({})',
      oldAnnotations: 'variables.before.?metadata.?annotations.orValue({})',
      // Owner and epoch are there together or not at all, or else the mark matches nothing.
      expected:
        "variables.before.?status.?owner.orValue('') + '/' + string(variables.before.?status.?epoch.orValue(0))",
      owned: 'variables.before.?status.?owner.hasValue()',
      onlyMark: [
        "request.operation == 'UPDATE'",
        'object.?spec == oldObject.?spec',
        ...['labels', 'ownerReferences', 'finalizers'].map(
          (field) =>
            `object.metadata.?${field}.orValue(${field === 'labels' ? '{}' : '[]'}) == oldObject.metadata.?${field}.orValue(${field === 'labels' ? '{}' : '[]'})`,
        ),
        `variables.annotations.all(key, key == '${RELEASED_ANNOTATION}' || variables.oldAnnotations[?key] == optional.of(variables.annotations[key]))`,
        `variables.oldAnnotations.all(key, key == '${RELEASED_ANNOTATION}' || key in variables.annotations)`,
        // Taking a release back is a decision of people: the shard may be granted elsewhere already.
        '(variables.sameMark || variables.mark.hasValue())',
      ].join(' && '),
      operates: meshVerb('operate'),
      releases: meshVerb('release'),
    },
  },
  [
    {
      expression:
        "variables.sameMark || variables.operates || (request.operation == 'UPDATE' && variables.releases)",
      message: 'changing the release annotation needs the verb release or operate on shardassignments',
      messageExpression: missing(
        'release',
        'meshkit-shards-node',
        `changing the annotation ${RELEASED_ANNOTATION}`,
      ),
      reason: 'Forbidden',
    },
    {
      expression:
        "variables.sameMark || !variables.mark.hasValue() || request.operation == 'CREATE' || (variables.owned && variables.mark.value() == variables.expected)",
      message: `the annotation ${RELEASED_ANNOTATION} must be <status.owner>/<status.epoch>`,
      messageExpression: `variables.owned ? 'the annotation ${RELEASED_ANNOTATION} must be ' + variables.expected + ' (<status.owner>/<status.epoch>), not ' + variables.mark.orValue('') + ': release only what you own, at the epoch at which you own it' : 'nobody owns ' + request.name + ', so there is nothing to release: remove the annotation ${RELEASED_ANNOTATION}'`,
      reason: 'Invalid',
    },
    {
      expression: 'variables.onlyMark || variables.operates || !variables.releases',
      message: 'with the verb release alone, only the release annotation may be changed',
      messageExpression: `request.userInfo.username + ' has the verb release but not operate in namespace ' + request.namespace + ', and may change nothing of a ShardAssignment but the annotation ${RELEASED_ANNOTATION}, to <status.owner>/<status.epoch>'`,
      reason: 'Forbidden',
    },
  ],
);

/** Served by Kubernetes 1.32 and newer. */
export const VALIDATING_POLICIES: readonly AdmissionObject[] = [...status, ...operate, ...release];

const stampPath = `'/metadata/annotations/' + jsonpatch.escapeKey('${CHANGED_BY_ANNOTATION}')`;

/**
 * Names the authenticated user who last changed spec. Any other write puts the old value back, so that the
 * annotation can be neither forged nor lost. Served as v1 by Kubernetes 1.36 and newer (KEP-3962); on older
 * ones the operator names the field manager instead.
 */
export const CHANGED_BY_POLICY: readonly AdmissionObject[] = bound(
  'Mutating',
  {
    name: CHANGED_BY_NAME,
    resources: ALL,
    variables: {
      present: `object.metadata.?annotations[?'${CHANGED_BY_ANNOTATION}']`,
      wanted: `request.operation == 'CREATE' || object.?spec != oldObject.?spec ? optional.of(request.userInfo.username) : oldObject.metadata.?annotations[?'${CHANGED_BY_ANNOTATION}']`,
    },
  },
  {},
  {
    // Again after any webhook that changed spec later in the chain.
    reinvocationPolicy: 'IfNeeded',
    mutations: [
      {
        patchType: 'JSONPatch',
        jsonPatch: {
          expression: [
            'variables.present == variables.wanted ? []',
            `!variables.wanted.hasValue() ? [JSONPatch{op: 'remove', path: ${stampPath}}]`,
            `has(object.metadata.annotations) ? [JSONPatch{op: 'add', path: ${stampPath}, value: variables.wanted.value()}]`,
            `[JSONPatch{op: 'add', path: '/metadata/annotations', value: {'${CHANGED_BY_ANNOTATION}': variables.wanted.value()}}]`,
          ].join(' : '),
        },
      },
    ],
  },
);
