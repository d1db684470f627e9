/** Cells that have a report under them, and what can be done about one: invalidate its answers, run it fresh. */

import type { JupyterFrontEnd } from '@jupyterlab/application';
import type { Cell } from '@jupyterlab/cells';
import type { INotebookTracker, NotebookPanel } from '@jupyterlab/notebook';

import { callsOf } from './cell_status.js';
import { ask, type Invalidated } from './server';

export const MIME = 'application/vnd.genai-cache.cell+json';

export interface Found {
  panel: NotebookPanel;
  index: number;
  cell: Cell;
}

interface Report {
  store?: unknown;
}

/** Return the reports under a cell, the last one last. */
export function reportsOf(cell: Cell): Report[] {
  const outputs = (cell.model.toJSON() as { outputs?: { data?: Record<string, unknown> }[] }).outputs ?? [];
  return outputs.map(output => output.data?.[MIME]).filter((found): found is Report => typeof found === 'object' && found !== null);
}

export function activeCell(tracker: INotebookTracker): Found | null {
  const panel = tracker.currentWidget;
  const cell = panel?.content.activeCell;
  return panel && cell ? { panel, cell, index: panel.content.activeCellIndex } : null;
}

/** Return the cell under which `node` stands, in whichever notebook is open. */
export function cellOf(tracker: INotebookTracker | null, node: Node): Found | null {
  let found: Found | null = null;
  tracker?.forEach(panel => {
    const index = panel.content.widgets.findIndex(cell => cell.node.contains(node));
    if (index >= 0) {
      found = { panel, index, cell: panel.content.widgets[index] };
    }
  });
  return found;
}

/** Make the answers of a cell invalid, or count them: those that its reports say it was given, and what it stored. */
export async function invalidate(cell: Cell, dryRun: boolean): Promise<Invalidated> {
  const reports = reportsOf(cell);
  const entries = new Set(reports.flatMap(report => callsOf(report).map(call => call.answer)).filter(Boolean));
  const store = [...reports].reverse().find(report => typeof report.store === 'string')?.store;
  return ask('invalidate', {}, { entries: [...entries], cell: cell.model.id, store: store ?? '', dry_run: dryRun });
}

/** Make the answers of a cell invalid and run it, so that the models are asked anew. */
export async function rerun(app: JupyterFrontEnd, { panel, cell, index }: Found): Promise<string> {
  const done = await invalidate(cell, false);
  panel.content.deselectAll();
  panel.content.activeCellIndex = index;
  app.shell.activateById(panel.id);
  // Not awaited: it ends with the cell, and a kernel that is busy runs the cell after what it is doing.
  void app.commands.execute('notebook:run-cell');
  return `${done.sentence}. The cell runs again, and asks the models anew.`;
}
