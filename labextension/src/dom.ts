/** Elements. SECURITY: what others named goes in as text; nothing here takes markup. */

export type Child = Node | string;

export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Record<string, string | boolean | ((event: Event) => void)> = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') {
      made.addEventListener(name, value);
    } else if (value === true) {
      made.setAttribute(name, '');
    } else if (value !== false) {
      made.setAttribute(name, value);
    }
  }
  made.append(...children);
  return made;
}

export function button(title: string, act: () => void, attributes: Record<string, string | boolean> = {}): HTMLButtonElement {
  return make('button', { type: 'button', class: 'gcl-button', click: act, ...attributes }, title);
}

export const whole = (n: number): string => n.toLocaleString('en-US');

export const counted = (n: number, one: string): string => `${whole(n)} ${one}${n === 1 ? '' : 's'}`;

const SHOWN_CHARS = 80;

/** The start of a name: a key may be a whole prompt. `entries/listing/names.py` cuts alike. */
export function short(name: string): string {
  const characters = [...name];
  return characters.length <= SHOWN_CHARS ? name : `${characters.slice(0, SHOWN_CHARS - 1).join('')}…`;
}

export function sentence(error: unknown): string {
  return error instanceof Error ? error.message : 'That did not work: the log of the Jupyter server may say why.';
}

const UNITS = ['bytes', 'kB', 'MB', 'GB', 'TB'];

export function size(bytes: number): string {
  let unit = 0;
  while (bytes >= 1024 && unit < UNITS.length - 1) {
    bytes /= 1024;
    unit += 1;
  }
  return `${unit ? bytes.toFixed(1) : bytes} ${UNITS[unit]}`;
}
