/** Kubernetes' MicroTime: RFC 3339 with exactly six decimals; the API server refuses anything else. */
export function microTime(ms: number): string {
  return new Date(ms).toISOString().replace('Z', '000Z');
}
