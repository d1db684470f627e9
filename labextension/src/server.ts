/** Asks the server extension, below the base URL and with the XSRF token; what goes wrong is a sentence. */

import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';

export const HOW_TO_ENABLE =
  'The Jupyter server does not answer for the cache: run `jupyter server extension enable genai_cache_magic` in the ' +
  'environment of the server and start it anew; until then use %llm_cache in a cell.';

/** The server has no such part: the package is not installed where it runs, or not enabled. */
export class NotEnabled extends Error {}

export type Parameters = Record<string, string | number | undefined>;

/** Ask a route; `body` makes it a POST. Rejects with an `Error` whose message is a sentence. */
export async function ask<T>(route: string, parameters: Parameters = {}, body?: object): Promise<T> {
  const settings = ServerConnection.makeSettings();
  const given = Object.entries(parameters).filter(([, value]) => value !== undefined && value !== '');
  const query = given.map(([name, value]) => `${name}=${encodeURIComponent(String(value))}`).join('&');
  const url = URLExt.join(settings.baseUrl, 'genai-cache/api/v1', route) + (query ? `?${query}` : '');
  const init = body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) };
  let response: Response;
  try {
    response = await ServerConnection.makeRequest(url, init, settings);
  } catch {
    throw new Error('The Jupyter server can not be reached: look whether it still runs.');
  }
  let answer: unknown;
  try {
    answer = await response.json();
  } catch {
    answer = null;
  }
  if (response.ok) {
    return answer as T;
  }
  const said = answer as { message?: unknown; reason?: unknown } | null;
  if (response.status === 404 && said?.reason !== 'NotHere') {
    throw new NotEnabled(HOW_TO_ENABLE);
  }
  if (response.status === 403) {
    throw new Error('The Jupyter server does not allow you that: log in again, or ask who runs it.');
  }
  throw new Error(typeof said?.message === 'string' ? said.message : `The Jupyter server answered ${response.status}.`);
}

export interface Health {
  version: string;
  namespace: string;
  store: string;
  l1: { state: string; sentence: string };
  l2: { state: string; sentence: string };
  notes: string[];
}

export interface Counted {
  name: string;
  count: number;
}

export interface Stats {
  store: string;
  namespace: string;
  entries: number;
  size_bytes: number;
  models: Counted[];
  tags: Counted[];
  runs: Counted[];
}

export interface Entry {
  id: string;
  name: string;
  model: string;
  stored: string | null;
  expires: string | null;
  input_tokens: number | null;
  output_tokens: number | null;
  cost_usd: string | null;
  tags: string[];
  run: string;
}

export interface Page {
  total: number;
  offset: number;
  entries: Entry[];
}

export interface Body {
  asked: string;
  text: string;
  is_truncated: boolean;
}

export interface Invalidated {
  count: number;
  known: number;
  sentence: string;
}

export interface Sums {
  day?: string;
  model?: string;
  spent_usd: string;
  saved_usd: string;
  spent_unknown: number;
  saved_unknown: number;
  hits: number;
  misses: number;
}

export interface Usage {
  until: string;
  rows: Sums[];
  total: Sums;
}
