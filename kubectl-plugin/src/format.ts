export const FORMATS = ['table', 'wide', 'json', 'yaml', 'name'] as const;
export type Format = (typeof FORMATS)[number];
/** Of verbs whose answer has no objects to name. */
export const NAMELESS: readonly Format[] = FORMATS.filter((format) => format !== 'name');
