/** Types of `genai_cache_magic/jupyter/static/cell_status.js`, which the build copies beside this file's output. */

export interface Host {
  post(path: string, body: object): Promise<object>;
  canControl: boolean;
  howToControl?: string;
  fetchLive?(): Promise<object | null> | null;
  theme?: string;
}

export interface Drawn {
  update(report: unknown): void;
  destroy(): void;
}

export function draw(element: HTMLElement, report: unknown, host?: Host): Drawn;
export function callsOf(report: object): { entry: string; answer: string }[];
export function dollars(usd: number | null): string;
