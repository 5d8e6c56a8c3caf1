/** How exactly a media range names `application/json`; undefined when it does not. */
const RANGES: Record<string, number> = { 'application/json': 3, 'application/*': 2, '*/*': 1 };

/** Whether an Accept header allows JSON (RFC 9110, section 12.5.1): the most exact range decides, `q=0` forbids. */
export function acceptsJson(accept: string | undefined): boolean {
  if (accept === undefined || accept.trim() === '') return true;
  let best = 0;
  let allowed = false;
  for (const range of accept.split(',')) {
    const [type = '', ...parameters] = range.split(';').map((part) => part.trim().toLowerCase());
    const exactness = RANGES[type] ?? 0;
    if (exactness === 0 || exactness < best) continue;
    const quality = parameters.find((parameter) => parameter.startsWith('q='))?.slice(2) ?? '1';
    const wanted = Number(quality) > 0;
    allowed = exactness === best ? allowed || wanted : wanted;
    best = exactness;
  }
  return allowed;
}
