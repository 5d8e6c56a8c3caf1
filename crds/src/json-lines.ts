const NEWLINE = 0x0a;

/**
 * Cuts a stream of bytes into lines, whatever the chunks. Lines are found in bytes and decoded whole, so a UTF-8
 * sequence may be split anywhere. A last line without a newline is cut off by the peer and never yielded.
 * Calls `tooLong` for the error to throw when a line outgrows `maxBytes`.
 */
export async function* lines(
  chunks: AsyncIterable<Uint8Array>,
  maxBytes: number,
  tooLong: () => Error,
): AsyncGenerator<string, void> {
  let parts: Uint8Array[] = [];
  let held = 0;
  for await (const chunk of chunks) {
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, start)) {
      if (held + end - start > maxBytes) throw tooLong();
      const tail = Buffer.from(chunk.buffer, chunk.byteOffset + start, end - start);
      const line = held === 0 ? tail.toString() : Buffer.concat([...parts, tail]).toString();
      parts = [];
      held = 0;
      start = end + 1;
      if (line.trim() !== '') yield line;
    }
    if (start < chunk.length) {
      parts.push(chunk.subarray(start));
      held += chunk.length - start;
      if (held > maxBytes) throw tooLong();
    }
  }
}
