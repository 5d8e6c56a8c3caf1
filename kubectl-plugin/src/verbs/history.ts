import type { HistoryPage } from '@meshkit/shards/repository';
import { bareName } from '../columns.ts';
import { connected, limitsOf } from '../connected.ts';
import { logText } from '../log-text.ts';
import { counted, type Look, printAnswer } from '../print.ts';
import type { Work } from '../verb.ts';

export const history: Work<{ since?: string }> = ({ flags, format, around }, name) =>
  connected(flags, around, async (source, fallback) => {
    const { since, pageSize, limit } = flags;
    const key = { namespace: flags.namespace ?? fallback, name: bareName(name) };
    const limits = { ...limitsOf(flags, around), pageSize, limit };
    let model: HistoryPage | undefined;
    for await (const page of source.history({ ...key, since }, limits)) {
      model = model ? { ...model, items: [...model.items, ...page.items], next: page.next } : page;
    }
    if (!model) return 0;
    await printAnswer(model, { format, text: historyText }, flags, around.stdout);
    if (model.items.length === 0) {
      await around.stderr.write(`Nothing happened to ${model.name} in that time.\n`);
    }
    return 0;
  });

function historyText({ namespace, items, floor, next }: HistoryPage, look: Look): string {
  const log = logText(items, { namespace, names: false, dates: true }, look);
  if (!look.wide || log === '') return log;
  const since = floor.at === undefined ? `position ${floor.position}` : floor.at;
  return `${log}\n${counted(items.length, 'change')}${next === undefined ? '' : ', and older ones'}; kept since ${since}\n`;
}
