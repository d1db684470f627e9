/** The line in the status bar: what today came to, and how the team's tier is. */

import { Widget } from '@lumino/widgets';

import { hitRate, saved, spent } from './money';
import { ask, type Health, HOW_TO_ENABLE, NotEnabled, type Usage } from './server';
import { sentence } from './dom';

const L2_IN_WORDS: Record<string, string> = { ok: 'L2 ok', behind: 'L2 behind', unreachable: 'L2 offline' };

export class Status extends Widget {
  private readonly _button = document.createElement('button');

  constructor(open: () => void) {
    super();
    this.addClass('gcl-status');
    this._button.type = 'button';
    this._button.addEventListener('click', open);
    this.node.append(this._button);
    this._show('llm_cache', 'What the model calls of this server came to');
  }

  /** Ask how it is, and show it. */
  async refresh(): Promise<void> {
    try {
      const [usage, health] = await Promise.all([
        ask<Usage>('usage', { since: 'today', by: 'day' }),
        ask<Health>('health')
      ]);
      const parts = [`today ${spent(usage.total)} spent`, `${saved(usage.total)} saved`, hitRate(usage.total)];
      const l2 = health.l1.state === 'ok' ? (L2_IN_WORDS[health.l2.state] ?? '') : 'cache broken';
      const line = `llm_cache: ${[...parts, l2].filter(Boolean).join(' · ')}`;
      const trouble = [health.l1.sentence, health.l2.sentence].filter(Boolean).join('\n');
      this._show(line, trouble || `Model calls of namespace ${health.namespace}; days are those of UTC`);
      this.toggleClass('gcl-mod-trouble', trouble !== '');
    } catch (error) {
      const isOff = error instanceof NotEnabled;
      this._show(isOff ? 'llm_cache: not enabled' : 'llm_cache: no answer', isOff ? HOW_TO_ENABLE : sentence(error));
      this.addClass('gcl-mod-trouble');
    }
  }

  private _show(line: string, title: string): void {
    this._button.textContent = line;
    this._button.title = title;
  }
}
