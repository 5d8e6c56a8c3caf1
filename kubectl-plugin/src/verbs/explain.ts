import type { ShardExplanation } from '@meshkit/shards/explain';
import { GROUP } from '@meshkit/shards/records';
import { bareName } from '../columns.ts';
import { connected, limitsOf } from '../connected.ts';
import { sameFlags } from '../connection.ts';
import { explanationText } from '../explanation-text.ts';
import { type Look, printAnswer } from '../print.ts';
import type { Work } from '../verb.ts';

export const explain: Work<object> = ({ flags, format, around }, name) =>
  connected(flags, around, async (source, fallback) => {
    const model = await source.explain(flags.namespace ?? fallback, bareName(name), limitsOf(flags, around));
    const now = around.clock.now();
    const { cluster } = sameFlags(flags);
    const print = {
      format,
      // The node that has it or gets it.
      names: ({ target, owner = target }: ShardExplanation) =>
        owner === undefined ? [] : [`meshnode.${GROUP}/${target ?? owner}`],
      text: (explanation: ShardExplanation, look: Look) =>
        explanationText(explanation, look, { now, cluster }),
    };
    await printAnswer(model, print, flags, around.stdout);
    return 0;
  });
