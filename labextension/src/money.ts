/** Sums of the ledger in words. */

import { dollars } from './cell_status.js';
import type { Sums } from './server';

function known(usd: string, unknown: number): string {
  return unknown && !Number(usd) ? 'unknown' : `${unknown ? 'at least ' : ''}${dollars(Number(usd))}`;
}

export const spent = (sums: Sums): string => known(sums.spent_usd, sums.spent_unknown);

export const saved = (sums: Sums): string => known(sums.saved_usd, sums.saved_unknown);

/** Return the share of calls that were hits, empty if there were none. */
export function hitRate(sums: Sums): string {
  const asked = sums.hits + sums.misses;
  return asked ? `${Math.round((100 * sums.hits) / asked)}% hits` : '';
}
