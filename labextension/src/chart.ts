/** Saved and spent by day, as an inline SVG: no library, and it follows the theme. */

import { dollars } from './cell_status.js';
import type { Sums } from './server';

const NAMESPACE = 'http://www.w3.org/2000/svg';
const [WIDTH, HEIGHT, BASE] = [224, 96, 80]; // about that of the sidebar, so that letters keep their size
const DAY_MS = 86_400_000;

function shape(tag: string, attributes: Record<string, string | number>, text = ''): SVGElement {
  const made = document.createElementNS(NAMESPACE, tag);
  for (const [name, value] of Object.entries(attributes)) {
    made.setAttribute(name, String(value));
  }
  made.textContent = text;
  return made;
}

/** Return the days that end with `until`, the oldest first, as the ledger writes them. */
export function daysTo(until: string, count: number): string[] {
  const last = Date.parse(`${until}T00:00:00Z`);
  return Array.from({ length: count }, (_, n) => new Date(last - (count - 1 - n) * DAY_MS).toISOString().slice(0, 10));
}

/** Return a chart of `rows`, one a day, or null if there is nothing to show yet. */
export function chart(rows: Sums[], until: string, count: number): SVGElement | null {
  const days = new Map(rows.map(row => [row.day, row]));
  const shown = daysTo(until, count).map(day => {
    const row = days.get(day);
    return { day, saved: Math.max(0, Number(row?.saved_usd ?? 0)), spent: Math.max(0, Number(row?.spent_usd ?? 0)) };
  });
  const most = Math.max(...shown.map(({ saved, spent }) => Math.max(saved, spent)));
  if (!(most > 0)) {
    return null;
  }
  const sum = (of: 'saved' | 'spent') => shown.reduce((total, day) => total + day[of], 0);
  const title = `Saved ${dollars(sum('saved'))} and spent ${dollars(sum('spent'))} in ${count} days`;
  const svg = shape('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: 'gcl-chart', role: 'img', 'aria-label': title });
  const step = WIDTH / count;
  shown.forEach(({ day, saved, spent }, n) => {
    const bar = (amount: number, at: number, kind: string) => {
      const height = amount > 0 ? Math.max(1.5, (amount / most) * (BASE - 14)) : 0;
      const place = { x: n * step + at * step, y: BASE - height, width: step * 0.4, height };
      return shape('rect', { ...place, class: `gcl-${kind}` });
    };
    const group = shape('g', {});
    group.append(shape('title', {}, `${day}: saved ${dollars(saved)}, spent ${dollars(spent)}`));
    group.append(shape('rect', { x: n * step, y: 0, width: step, height: BASE, class: 'gcl-day' }));
    group.append(bar(saved, 0.08, 'saved'), bar(spent, 0.52, 'spent'));
    svg.append(group);
  });
  svg.append(shape('line', { x1: 0, x2: WIDTH, y1: BASE, y2: BASE, class: 'gcl-axis' }));
  svg.append(shape('text', { x: 0, y: HEIGHT - 3 }, shown[0].day));
  svg.append(shape('text', { x: WIDTH, y: HEIGHT - 3, 'text-anchor': 'end' }, until));
  svg.append(shape('text', { x: 0, y: 9 }, `most in a day: ${dollars(most)}`));
  return svg;
}
