/** What the harness asks of a process that plays nodes. */
export type FleetOrder =
  | {
      type: 'start';
      run: number;
      namespace: string;
      /** Each node, and its way to kube-apiserver. */
      nodes: { node: string; kubeconfig: string }[];
      leaseSeconds: number;
      /** How long finishing the work of a shard takes. */
      drainMs: number;
    }
  | { type: 'stop'; run: number };

/** What it says. A `write` may come late: it carries the epoch that its node held when it was begun. */
export type FleetNews =
  | { type: 'ready' }
  | { type: 'grant' | 'write'; run: number; node: string; key: string; epoch: number };
