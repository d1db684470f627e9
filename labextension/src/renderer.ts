/** Draws the report under a cell, trusted or not, with a kernel or without. */

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { INotebookTracker } from '@jupyterlab/notebook';
import { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import type { IRenderMime } from '@jupyterlab/rendermime-interfaces';
import { Widget } from '@lumino/widgets';

import { callsOf, draw, type Drawn, type Host } from './cell_status.js';
import { cellOf, MIME, rerun } from './cells';
import { askKernel } from './kernel';
import { ask } from './server';

const RANK = 10; // before text/html, which has 50

class Report extends Widget implements IRenderMime.IRenderer {
  private _drawn: Drawn | null = null;

  constructor(
    private readonly _app: JupyterFrontEnd,
    private readonly _tracker: INotebookTracker | null
  ) {
    super();
    this.addClass('gcl-report');
  }

  async renderModel(model: IRenderMime.IMimeModel): Promise<void> {
    const report = model.data[MIME];
    if (this._drawn) {
      this._drawn.update(report);
    } else {
      this._drawn = draw(this.node, report, this._host(model));
    }
  }

  dispose(): void {
    this._drawn?.destroy();
    super.dispose();
  }

  private _host(model: IRenderMime.IMimeModel): Host {
    const post = async (path: string, body: object): Promise<object> => {
      const found = cellOf(this._tracker, this.node);
      if (path === 'explain') {
        const kernel = found?.panel.sessionContext.session?.kernel;
        return (await askKernel(kernel, path, body)) ?? ask(path, {}, body);
      }
      if (path !== 'rerun') {
        return ask(path, {}, body);
      }
      if (!found) {
        throw new Error('This view belongs to no cell of an open notebook, so there is nothing to run again.');
      }
      return { sentence: await rerun(this._app, found) };
    };
    const fetchLive = async (): Promise<object | null> => {
      const report = model.data[MIME] as { store?: string } | null;
      const entries = [...new Set(callsOf(report ?? {}).map(call => call.answer).filter(Boolean))];
      return entries.length ? ask<object>('live', {}, { entries, store: report?.store ?? '' }) : null;
    };
    return { post, canControl: true, fetchLive };
  }
}

export const renderer: JupyterFrontEndPlugin<void> = {
  id: 'genai-cache-magic:renderer',
  description: 'Draws what the model calls of a cell came to.',
  autoStart: true,
  requires: [IRenderMimeRegistry],
  optional: [INotebookTracker],
  activate: (app: JupyterFrontEnd, registry: IRenderMimeRegistry, tracker: INotebookTracker | null) => {
    registry.addFactory(
      { safe: true, mimeTypes: [MIME], defaultRank: RANK, createRenderer: () => new Report(app, tracker) },
      RANK
    );
  }
};
