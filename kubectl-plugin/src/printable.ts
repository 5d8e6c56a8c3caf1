const SHORT: Record<string, string> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

/**
 * Text that somebody else wrote, as it may go to a terminal: control characters (C0, DEL, C1) become what JSON writes for
 * them, so that no reason of a change forges a row, a colour or a title.
 */
export function printable(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, (character) => {
    return SHORT[character] ?? `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
}
