/** What is stored: a page of answers, searched and filtered, each with what it says on demand. */

import { dollars } from './cell_status.js';
import { button, counted, make, sentence, short, size, whole } from './dom';
import { ask, type Body, type Entry, type Page, type Stats } from './server';

const KINDS = ['model', 'tag', 'run'] as const;
const TYPING_MS = 250;

export class Listing {
  readonly node = make('div', { class: 'gcl-section' });
  pageSize = 25;
  store = '';
  private readonly _search = make('input', { type: 'search', placeholder: 'Search names', 'aria-label': 'Search names' });
  private readonly _chosen = new Map(KINDS.map(kind => [kind as string, make('select', { 'aria-label': `Only this ${kind}` })]));
  private readonly _summary = make('p', { class: 'gcl-note' });
  private readonly _list = make('ul', { class: 'gcl-entries' });
  private readonly _more = make('div', {});
  private readonly _open = new Set<string>();
  private _shown: Entry[] = [];
  private _round = 0;
  private _typing = 0;

  constructor(
    private readonly _invalidate: (what: { asking: HTMLElement; entry: string }) => void,
    private readonly _say: (text: string) => void
  ) {
    this._search.addEventListener('input', () => {
      window.clearTimeout(this._typing);
      this._typing = window.setTimeout(() => void this._load(0), TYPING_MS);
    });
    const selects = [...this._chosen.values()];
    selects.forEach(select => select.addEventListener('change', () => void this._load(0)));
    this.node.append(
      make('h3', {}, 'Answers'),
      make('div', { class: 'gcl-filters' }, this._search, ...selects),
      this._summary, this._list, this._more
    );
    this.clear();
  }

  clear(): void {
    this.node.hidden = true;
  }

  /** Show the answers with a tag, or of a run. */
  async filter(kind: string, name: string): Promise<void> {
    const select = this._chosen.get(kind);
    if (select) {
      choices(select, kind, [...select.options].map(option => option.value).filter(Boolean).concat(name), name);
    }
    await this._load(0);
    this.node.scrollIntoView({ block: 'start' });
  }

  /** Take over what there is to choose from, and load as many answers as are shown. */
  async refresh(stats: Stats): Promise<void> {
    this.store = stats.store;
    this.node.hidden = false;
    const names = { model: stats.models, tag: stats.tags, run: stats.runs };
    for (const kind of KINDS) {
      const select = this._chosen.get(kind)!;
      choices(select, kind, names[kind].map(({ name }) => name), select.value);
    }
    await this._load(0, Math.max(this.pageSize, Math.min(500, this._shown.length)));
    const isAll = !this._search.value && [...this._chosen.values()].every(select => !select.value);
    if (isAll) {
      this._summary.textContent = `${counted(stats.entries, 'answer')}, ${size(stats.size_bytes)}`;
    }
  }

  private async _load(offset: number, limit = this.pageSize): Promise<void> {
    const round = ++this._round;
    const chosen = Object.fromEntries([...this._chosen].map(([kind, select]) => [kind, select.value]));
    try {
      const page = await ask<Page>('entries', { ...chosen, search: this._search.value, offset, limit, store: this.store });
      if (round !== this._round) {
        return;
      }
      const known = new Set(offset ? this._shown.map(entry => entry.id) : []);
      this._shown = [...(offset ? this._shown : []), ...page.entries.filter(entry => !known.has(entry.id))];
      this._draw(page.total, offset + page.entries.length);
    } catch (error) {
      this._say(sentence(error));
    }
  }

  private _draw(total: number, next: number): void {
    const isFiltered = this._search.value || [...this._chosen.values()].some(select => select.value);
    const none = isFiltered ? 'No answer fits: clear the search or the filters.' : 'No answer is stored yet.';
    this._summary.textContent = total ? `${counted(total, 'answer')}` : none;
    this._list.replaceChildren(...this._shown.map(entry => this._item(entry)));
    const title = `Show ${whole(Math.min(this.pageSize, total - next))} more of ${whole(total - next)}`;
    this._more.replaceChildren(...(next < total ? [button(title, () => void this._load(next))] : []));
  }

  private _item(entry: Entry): HTMLElement {
    const body = make('div', { class: 'gcl-body', hidden: true });
    const asking = make('div', { class: 'gcl-asking', hidden: true });
    const show = button('Show', () => void this._toggle(entry, body, show), { 'aria-expanded': 'false', 'aria-label': `Show the answer ${entry.id}` });
    const invalidate = button('Invalidate', () => this._invalidate({ asking, entry: entry.id }), { 'aria-label': `Invalidate the answer ${entry.id}` });
    const when = entry.stored ? new Date(entry.stored).toLocaleString() : '';
    const cost = entry.cost_usd === null ? 'price unknown' : dollars(Number(entry.cost_usd));
    const tokens = entry.input_tokens === null ? '' : `${whole(entry.input_tokens)} / ${whole(entry.output_tokens ?? 0)} tokens`;
    const facts = [when, entry.model ? cost : '', tokens, entry.run, ...entry.tags].filter(Boolean).join(' · ');
    if (this._open.has(entry.id)) {
      void this._toggle(entry, body, show);
    }
    return make('li', {},
      make('div', { class: 'gcl-line' }, make('span', { class: 'gcl-name', title: entry.id }, short(entry.name)), show, invalidate),
      make('div', { class: 'gcl-note' }, facts), asking, body);
  }

  private async _toggle(entry: Entry, place: HTMLElement, show: HTMLElement): Promise<void> {
    if (!place.hidden) {
      place.hidden = true;
      this._open.delete(entry.id);
    } else {
      this._open.add(entry.id);
      try {
        const found = await ask<Body>(`entries/${entry.id}/body`, { store: this.store });
        const asked = found.asked ? [make('h4', {}, 'Asked'), make('pre', { tabindex: '0' }, found.asked)] : [];
        const end = found.is_truncated ? [make('p', { class: 'gcl-note' }, 'It goes on: this is its beginning.')] : [];
        place.replaceChildren(...asked, make('h4', {}, 'Answer'), make('pre', { tabindex: '0' }, found.text), ...end);
      } catch (error) {
        place.replaceChildren(make('p', { class: 'gcl-note' }, sentence(error)));
      }
      place.hidden = false;
    }
    show.textContent = place.hidden ? 'Show' : 'Hide';
    show.setAttribute('aria-expanded', String(!place.hidden));
  }
}

function choices(select: HTMLSelectElement, kind: string, names: string[], chosen: string): void {
  const all = [...new Set(chosen ? [...names, chosen] : names)];
  select.replaceChildren(make('option', { value: '' }, `any ${kind}`), ...all.map(name => make('option', { value: name }, name)));
  select.value = chosen;
  select.hidden = !all.length;
}
