/** Content negotiation by RFC 9110, section 12.5: the most exact range decides, and `q=0` forbids. */

/** Whether an Accept header allows this media type. No header allows everything. */
export function accepts(accept: string | undefined, mediaType: string): boolean {
  if (accept === undefined || accept.trim() === '') return true;
  const [type = ''] = mediaType.split('/');
  const exactness = new Map([
    [mediaType, 3],
    [`${type}/*`, 2],
    ['*/*', 1],
  ]);
  return allowed(accept, exactness) ?? false;
}

/** Whether an Accept-Encoding header asks for gzip. Without the header nobody asked. */
export function acceptsGzip(acceptEncoding: string | undefined): boolean {
  const exactness = new Map([
    ['gzip', 2],
    ['x-gzip', 2],
    ['*', 1],
  ]);
  return acceptEncoding !== undefined && (allowed(acceptEncoding, exactness) ?? false);
}

/** undefined: the header says nothing about it. */
function allowed(header: string, exactness: ReadonlyMap<string, number>): boolean | undefined {
  let best = 0;
  let verdict: boolean | undefined;
  for (const range of header.split(',')) {
    const [name = '', ...parameters] = range.split(';').map((part) => part.trim().toLowerCase());
    const exact = exactness.get(name) ?? 0;
    if (exact === 0 || exact < best) continue;
    const quality = parameters.find((parameter) => parameter.startsWith('q='))?.slice(2) ?? '1';
    const wanted = Number(quality) > 0;
    verdict = exact === best ? verdict || wanted : wanted;
    best = exact;
  }
  return verdict;
}
