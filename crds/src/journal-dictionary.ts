/**
 * What the zstd dictionary of the journal's first encoding holds: pieces of rows as they are common, the most common last.
 * Segments written with it can be read only with exactly it, so it is never edited: a better one is a new encoding.
 */
export const DICTIONARY = Buffer.from(
  [
    '"kubectl-create","kubectl-edit","kubectl-client-side-apply","kubectl","argocd-controller","kustomize-controller","helm-controller"',
    '"system:serviceaccount:argocd:argocd-application-controller","CHG-","eu-central-1a","eu-central","us-east-1"',
    '{"type":"Ready","status":"False","reason":"NoEligibleNode","message":"every MeshNode in namespace  is not ready, cordoned, draining, not selected or does not serve this namespace: start a node, set its spec.scheduling to Active, or change spec.nodes of ShardSet "}',
    '{"type":"Stalled","status":"True","reason":"NoNodes","message":"there is no MeshNode in namespace : create one, or change spec.nodes of ShardSet "}',
    '{"type":"Ready","status":"False","reason":"NodeNotReady","message":" is not ready (LeaseExpired); no other node can take the shard: start one, or change spec.nodes of ShardSet "}',
    '{"type":"Reconciling","status":"True","reason":"ChurnBudget","message":"pinned to , still on : ShardSet  makes  moves at a time (spec.churn.maxConcurrentMoves)"}',
    '{"type":"Reconciling","status":"True","reason":"Draining","message":"moving from  to "}',
    ',[-1],1],[1,[0,"Orphaned",0,"ShardSetDeleted","id  is not in ShardSet ","Retired","Paused","Resumed","spec.state is Active","Disabled","the ShardAssignment is being deleted"',
    '"TargetNotEligible"," can no longer take the shard","Locality"," lies outside the required locality","NotSelected"," is no longer selected by the set"',
    '[0,"NodeDeleted","MeshNode  is gone"]],[0,"NodeReady"," is ready again"]],[0,"Regranted","Rehydrated","owned it before"]],[0,"NodeNotReady","node- is not ready (NoLease)"]]',
    '[1,"Pin","pinned to node-"]],[2,"kubectl-patch","pinned to ","g":1,"i":"node-","l":{"zone":"a"},"r":"","k":"","c":1',
    '],[1,0,12,["default","orders.0000","",{"phase":"Pending","p":"Pending","s":"Active","n":0,"v":0,"g":1,"G":0,"c":1}],',
    '],[2,0,3,["payments","orders.0001","",{"p":"Active","s":"Active","o":"node-1","e":"https://worker-1.workers.payments.svc:8443","n":17954,"v":1,"g":1,"G":1,"c":1,"t":"2026-11-23T12:00:00.000Z"}],{"p":2,"o":"node-1","e":"https://node-","n":0,"G":1,"t":1},[0,"Placed","placed on node-"]],',
    '],[1,0,5,["payments","orders.0002","",{"p":"Active","s":"Active","o":"node-1","b":"node-2","n":17954,"v":2,"g":1,"G":1,"c":1,"t":"2026-11-2T12:00:00.0Z"}],{"p":2,"o":"node-","b":1,"n":0,"t":1},[0,"NodeNotReady","node- is not ready (LeaseExpired)"]],',
    '],[1,0,8,["payments","orders.0003","",{"p":"Active","s":"Active","o":"node-3","e":"tcp://node-","b":"node-1","n":17954,"v":3,"g":1,"G":1,"c":1,"t":"2026-11-2T12:00:00.0Z"}],{"p":3,"m":[0,30000,"node-"],"t":1},[0,"DeadlineExceeded","node- did not release before the deadline"]],[2,"Drain","node- is set to Drain"]],',
    '],[1,0,4,1,{"p":3,"m":[0,30000,"node-"],"t":1},[0,"Rebalance","node- is below its share"]],[1,0,9,0,{"p":2,"o":1,"e":"https://node-","b":1,"n":0,"m":0,"t":1},[0,"Released","released by node- at epoch 17954"]],',
  ].join('\n'),
);
