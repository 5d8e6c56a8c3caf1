export async function huntPlanted(_: { say: (line: string) => void; signal: AbortSignal }) {
  return { planted: 0, caught: 0 };
}
