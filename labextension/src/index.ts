/** The extension of JupyterLab and Notebook 7: the view under each cell, commands, status bar and sidebar. */

import { ILayoutRestorer, type JupyterFrontEnd, type JupyterFrontEndPlugin } from '@jupyterlab/application';
import { Dialog, ICommandPalette, Notification, showDialog } from '@jupyterlab/apputils';
import { INotebookTracker, NotebookActions } from '@jupyterlab/notebook';
import { ISettingRegistry } from '@jupyterlab/settingregistry';
import { IStatusBar } from '@jupyterlab/statusbar';
import { LabIcon, refreshIcon } from '@jupyterlab/ui-components';

import { activeCell, invalidate, reportsOf, rerun } from './cells';
import { counted, sentence } from './dom';
import { renderer } from './renderer';
import { ask } from './server';
import { Sidebar } from './sidebar';
import { Status } from './status';

const ID = 'genai-cache-magic:plugin';
const CATEGORY = 'llm_cache';
/** How long after a cell to ask [ms]: at once, and when a kernel that counts in the background is done with it. */
const AFTER_CELL_MS = [300, 3000];
const GLYPHS: Record<string, string> = { ok: '✓', warning: '!', error: '✗' };

const RERUN = 'genai-cache:rerun-fresh';
const INVALIDATE = 'genai-cache:invalidate-cell';
const SIDEBAR = 'genai-cache:show-sidebar';
const DOCTOR = 'genai-cache:doctor';

const svg = (path: string) =>
  `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24"><path class="jp-icon3" fill="#616161" d="${path}"/></svg>`;

/** A stack of three discs, as caches are drawn. */
const cacheIcon = new LabIcon({
  name: 'genai-cache:cache',
  svgstr: svg('M12 3C7.6 3 4 4.3 4 6v2c0 1.7 3.6 3 8 3s8-1.3 8-3V6c0-1.7-3.6-3-8-3zm8 7.4c-1.6 1.3-4.6 2.1-8 2.1s-6.4-.8-8-2.1V13c0 1.7 3.6 3 8 3s8-1.3 8-3v-2.6zm0 5c-1.600 1.3-4.6 2.1-8 2.1s-6.4-.8-8-2.1V18c0 1.7 3.6 3 8 3s8-1.3 8-3v-2.6z')
});

/** The same, struck out. */
const invalidateIcon = new LabIcon({
  name: 'genai-cache:invalidate',
  svgstr: svg('M12 3C7.6 3 4 4.3 4 6v12c0 1.7 3.6 3 8 3s8-1.3 8-3V6c0-1.7-3.6-3-8-3zm4.200 11.800-1.400 1.400L12 13.400l-2.800 2.800-1.400-1.400 2.800-2.800-2.800-2.800 1.400-1.400 2.800 2.800 2.800-2.800 1.400 1.400-2.800 2.800z')
});

interface Finding {
  part: string;
  severity: string;
  says: string;
}

function tell(work: Promise<string>): Promise<void> {
  return work.then(
    said => void (said && Notification.success(said, { autoClose: 5000 })),
    error => void Notification.error(sentence(error), { autoClose: false })
  );
}

/** Count, ask, and make invalid; return what to say, empty if nothing was done. */
async function invalidateActive(tracker: INotebookTracker): Promise<string> {
  const found = activeCell(tracker);
  if (!found) {
    return '';
  }
  const counts = await invalidate(found.cell, true);
  if (!counts.count) {
    return 'Nothing to invalidate: no valid answer of this cell is stored any more.';
  }
  const answer = await showDialog({
    title: `Invalidate ${counted(counts.count, 'answer')}?`,
    body: `${counts.sentence}, for everyone who shares them.`,
    buttons: [Dialog.cancelButton(), Dialog.warnButton({ label: 'Invalidate' })],
    defaultButton: 0
  });
  return answer.button.accept ? (await invalidate(found.cell, false)).sentence : '';
}

async function diagnose(): Promise<void> {
  const { findings } = await ask<{ findings: Finding[] }>('doctor');
  const list = document.createElement('ul');
  list.className = 'gcl-doctor';
  for (const { part, severity, says } of findings) {
    const line = document.createElement('li');
    line.textContent = `${GLYPHS[severity] ?? '!'} ${part}: ${says}`;
    list.append(line);
  }
  const { Widget } = await import('@lumino/widgets');
  await showDialog({ title: 'llm_cache doctor', body: new Widget({ node: list }), buttons: [Dialog.okButton()] });
}

function addCommands(app: JupyterFrontEnd, tracker: INotebookTracker, palette: ICommandPalette | null, show: () => void): void {
  const hasReport = () => {
    const found = activeCell(tracker);
    return found !== null && reportsOf(found.cell).length > 0;
  };
  const { commands } = app;
  commands.addCommand(RERUN, {
    label: 'Re-run Fresh: Ask the Models Anew',
    caption: 'Invalidate the answers of this cell, and run it again',
    icon: refreshIcon,
    isVisible: hasReport,
    isEnabled: hasReport,
    execute: () => {
      const found = activeCell(tracker);
      return found ? tell(rerun(app, found)) : undefined;
    }
  });
  commands.addCommand(INVALIDATE, {
    label: 'Invalidate the Answers of This Cell',
    caption: 'Make the answers of this cell invalid: they are counted first',
    icon: invalidateIcon,
    isVisible: hasReport,
    isEnabled: hasReport,
    execute: () => tell(invalidateActive(tracker))
  });
  commands.addCommand(SIDEBAR, { label: 'Show What the Cache Holds', icon: cacheIcon, execute: show });
  commands.addCommand(DOCTOR, { label: 'Look What Is Wrong', execute: () => tell(diagnose().then(() => '')) });
  for (const command of [RERUN, INVALIDATE, SIDEBAR, DOCTOR]) {
    palette?.addItem({ command, category: CATEGORY });
  }
  const changed = () => {
    commands.notifyCommandChanged(RERUN);
    commands.notifyCommandChanged(INVALIDATE);
  };
  tracker.activeCellChanged.connect(changed);
  NotebookActions.executed.connect(changed);
}

/** Call `refresh` now and then while the page is looked at, and soon after each cell. Returns what sets how often. */
function keepFresh(refresh: () => void): (seconds: number) => void {
  let timer = 0;
  let soon: number[] = [];
  const ifSeen = () => {
    if (!document.hidden) {
      refresh();
    }
  };
  NotebookActions.executed.connect(() => {
    soon.forEach(due => window.clearTimeout(due));
    soon = AFTER_CELL_MS.map(later => window.setTimeout(ifSeen, later));
  });
  document.addEventListener('visibilitychange', ifSeen);
  return seconds => {
    window.clearInterval(timer);
    if (seconds > 0) {
      timer = window.setInterval(ifSeen, seconds * 1000);
    }
  };
}

const plugin: JupyterFrontEndPlugin<void> = {
  id: ID,
  description: 'Commands, status bar and sidebar for cached model calls.',
  autoStart: true,
  requires: [INotebookTracker],
  optional: [ICommandPalette, IStatusBar, ISettingRegistry, ILayoutRestorer],
  activate: (
    app: JupyterFrontEnd,
    tracker: INotebookTracker,
    palette: ICommandPalette | null,
    statusBar: IStatusBar | null,
    registry: ISettingRegistry | null,
    restorer: ILayoutRestorer | null
  ) => {
    const sidebar = new Sidebar();
    sidebar.id = 'genai-cache-sidebar';
    sidebar.title.icon = cacheIcon;
    sidebar.title.caption = 'llm_cache: what model calls cost and saved';
    app.shell.add(sidebar, 'right', { rank: 600 });
    restorer?.add(sidebar, sidebar.id);
    const show = () => app.shell.activateById(sidebar.id);
    const status = new Status(show);
    let isShown = true;
    statusBar?.registerStatusItem('genai-cache:status', { item: status, align: 'right', rank: 900 });

    const refresh = () => {
      if (isShown && statusBar) {
        void status.refresh();
      }
      sidebar.refreshIfIdle();
    };
    addCommands(app, tracker, palette, show);
    const every = keepFresh(refresh);
    every(30);

    const configure = (settings: ISettingRegistry.ISettings) => {
      const { showStatus, refreshSeconds, chartDays, pageSize } = settings.composite as Record<string, number | boolean>;
      isShown = Boolean(showStatus);
      status.setHidden(!isShown);
      every(Number(refreshSeconds));
      sidebar.configure({ chartDays: Number(chartDays), pageSize: Number(pageSize) });
      refresh();
    };
    registry?.load(ID).then(
      settings => {
        configure(settings);
        settings.changed.connect(configure);
      },
      error => console.warn('llm_cache goes on with its default settings', error)
    );
    void app.restored.then(refresh);
  }
};

export default [renderer, plugin];
