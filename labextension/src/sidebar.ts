/** The right sidebar: health, money by day and model, tags, and what is stored. */

import type { Message } from '@lumino/messaging';
import { Widget } from '@lumino/widgets';

import { chart } from './chart';
import { button, counted, make, sentence, whole } from './dom';
import { Listing } from './listing';
import { hitRate, saved, spent } from './money';
import { ask, type Counted, type Health, type Invalidated, type Stats, type Usage } from './server';

const MOST_TAGS = 50;
const STATES: Record<string, string> = {
  ok: 'ok',
  none: 'not configured',
  behind: 'behind',
  unreachable: 'offline',
  broken: 'broken',
  unknown: 'unknown'
};

export interface Options {
  chartDays: number;
  pageSize: number;
}

export class Sidebar extends Widget {
  private readonly _said = make('p', { class: 'gcl-said', role: 'status', 'aria-live': 'polite' });
  private readonly _health = make('div', { class: 'gcl-section' });
  private readonly _money = make('div', { class: 'gcl-section' });
  private readonly _tags = make('div', { class: 'gcl-section' });
  private readonly _listing: Listing;
  private _options: Options = { chartDays: 30, pageSize: 25 };
  private _round = 0;

  constructor() {
    super();
    this.addClass('gcl-sidebar');
    const refresh = button('Refresh', () => void this.refresh());
    this._listing = new Listing(entries => void this._invalidated(entries), text => this.say(text));
    this.node.append(
      make('div', { class: 'gcl-head' }, make('h2', {}, 'llm_cache'), refresh),
      this._said, this._health, this._money, this._tags, this._listing.node
    );
  }

  configure(options: Options): void {
    this._options = options;
    this._listing.pageSize = options.pageSize;
    this.refreshIfIdle();
  }

  say(text: string): void {
    this._said.textContent = text;
  }

  /** Refresh, unless somebody is in the middle of something here, which would be drawn away under their hands. */
  refreshIfIdle(): void {
    const isAsking = this.node.querySelector('.gcl-asking:not([hidden])') !== null;
    if (this.isVisible && !isAsking && !this.node.contains(document.activeElement)) {
      void this.refresh();
    }
  }

  /** Ask for everything anew; what a slower, older round brings is dropped. */
  async refresh(): Promise<void> {
    const round = ++this._round;
    try {
      const health = await ask<Health>('health');
      if (round !== this._round) {
        return;
      }
      this._drawHealth(health);
      if (health.l1.state !== 'ok') {
        this._clear();
        return;
      }
      const since = `${this._options.chartDays}d`;
      const [stats, byDay, byModel] = await Promise.all([
        ask<Stats>('stats'),
        ask<Usage>('usage', { since, by: 'day' }),
        ask<Usage>('usage', { since, by: 'model' })
      ]);
      if (round !== this._round) {
        return;
      }
      this._drawMoney(byDay, byModel);
      this._drawTags(stats);
      await this._listing.refresh(stats);
    } catch (error) {
      if (round === this._round) {
        this._clear();
        this._health.replaceChildren(make('p', { class: 'gcl-empty' }, sentence(error)));
      }
    }
  }

  protected onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this.refreshIfIdle();
  }

  private _clear(): void {
    for (const section of [this._money, this._tags]) {
      section.replaceChildren();
    }
    this._listing.clear();
  }

  private _drawHealth(health: Health): void {
    const line = (name: string, { state, sentence }: { state: string; sentence: string }) =>
      make('div', { class: `gcl-state gcl-mod-${state in STATES ? state : 'unknown'}` },
        make('span', { class: 'gcl-dot', 'aria-hidden': 'true' }),
        make('span', {}, `${name}: ${STATES[state] ?? state}${sentence ? `. ${sentence}` : ''}`));
    const notes = health.notes.slice(0, 5).map(note => make('p', { class: 'gcl-note' }, note));
    const title = health.namespace ? `Namespace ${health.namespace}` : 'The cache can not be opened';
    this._health.replaceChildren(make('h3', {}, title), line('On this machine (L1)', health.l1), line('Team (L2)', health.l2), ...notes);
  }

  private _drawMoney(byDay: Usage, byModel: Usage): void {
    const days = this._options.chartDays;
    const today = byDay.rows.find(row => row.day === byDay.until);
    const title = make('h3', {}, 'Money');
    const drawn = chart(byDay.rows, byDay.until, days);
    const models = byModel.rows.filter(row => row.hits + row.misses > 0);
    if (!models.length) {
      const empty = 'Nothing yet: run a cell that begins with %%llm_cache, and what it spent and saved is shown here.';
      this._money.replaceChildren(title, make('p', { class: 'gcl-empty' }, empty));
      return;
    }
    const parts = today ? [`${spent(today)} spent`, `${saved(today)} saved`, hitRate(today)].filter(Boolean) : ['no calls'];
    const lines = models.map(row => {
      const sums = [`${spent(row)} spent`, `${saved(row)} saved`, hitRate(row)].filter(Boolean).join(', ');
      return make('li', {}, make('div', {}, row.model || '(no model)'), make('div', { class: 'gcl-note' }, sums));
    });
    const key = make('p', { class: 'gcl-key' },
      make('span', { class: 'gcl-swatch gcl-mod-saved' }), 'saved ', make('span', { class: 'gcl-swatch gcl-mod-spent' }), 'spent');
    this._money.replaceChildren(
      title,
      make('p', {}, `Today: ${parts.join(', ')}`),
      make('p', {}, `${days} days: ${spent(byDay.total)} spent, ${saved(byDay.total)} saved`),
      ...(drawn ? [drawn, key] : [make('p', { class: 'gcl-empty' }, `Nothing was spent or saved in these ${days} days, as far as prices are known.`)]),
      make('h4', {}, 'By model, the dearest first'),
      make('ul', { class: 'gcl-models' }, ...lines)
    );
  }

  private _drawTags(stats: Stats): void {
    const kinds: [string, string, Counted[]][] = [['tag', 'Tags', stats.tags], ['run', 'Runs', stats.runs]];
    this._tags.replaceChildren(...kinds.filter(([, , found]) => found.length).flatMap(([kind, title, found]) => {
      const lines = found.slice(0, MOST_TAGS).map(tag => this._tag(kind, tag));
      const more = found.length - lines.length;
      return [make('h3', {}, title), make('ul', {}, ...lines), ...(more > 0 ? [make('p', { class: 'gcl-note' }, `and ${whole(more)} more`)] : [])];
    }));
  }

  private _tag(kind: string, { name, count }: Counted): HTMLElement {
    const asking = make('div', { class: 'gcl-asking', hidden: true });
    const show = button(name, () => void this._listing.filter(kind, name), { title: `Show the answers with this ${kind}`, class: 'gcl-link' });
    const invalidate = button('Invalidate', () => void this._ask(asking, { [kind]: name }), { 'aria-label': `Invalidate ${kind} ${name}` });
    return make('li', {}, make('div', { class: 'gcl-line' }, show, make('span', { class: 'gcl-count' }, whole(count)), invalidate), asking);
  }

  /** Count what would be invalid, and ask whether it should be. */
  private async _ask(place: HTMLElement, what: object): Promise<void> {
    await confirmed(place, what, this._listing.store, text => this.say(text), () => void this.refresh());
  }

  private async _invalidated(place: { asking: HTMLElement; entry: string }): Promise<void> {
    await this._ask(place.asking, { entries: [place.entry] });
  }
}

/** Count what would be invalid, ask in `place`, and do it on a yes. */
async function confirmed(place: HTMLElement, what: object, store: string, say: (text: string) => void, done: () => void): Promise<void> {
  const post = (dryRun: boolean) => ask<Invalidated>('invalidate', {}, { ...what, store, dry_run: dryRun });
  const opener = document.activeElement;
  const close = () => {
    place.hidden = true;
    place.replaceChildren();
    if (opener instanceof HTMLElement && opener.isConnected) {
      opener.focus();
    }
  };
  try {
    const counts = await post(true);
    if (!counts.count) {
      say('Nothing to invalidate: no valid answer of that is stored any more.');
      done();
      return;
    }
    const yes = button(`Invalidate ${counted(counts.count, 'answer')}`, () => {
      close();
      post(false).then(({ sentence }) => say(sentence), error => say(sentence(error))).finally(done);
    }, { class: 'gcl-button gcl-mod-danger' });
    const no = button('Cancel', close);
    place.replaceChildren(make('span', {}, `${counts.sentence}, for everyone who shares them.`), yes, no);
    place.onkeydown = event => {
      if (event.key === 'Escape') {
        close();
      }
    };
    place.hidden = false;
    no.focus();
  } catch (error) {
    say(sentence(error));
  }
}

