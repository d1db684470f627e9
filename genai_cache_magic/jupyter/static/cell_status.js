/**
 * What stands under a cell: draws a call report (`spec/report.md`) wherever there is a browser.
 *
 * `draw(element, report, host)` is for a page or a renderer; the default export is for anywidget. No dependencies, no
 * network, no storage. SECURITY: everything that a report holds was named by a model, a server or a user, so it is
 * text (`textContent`), never markup, and never a link, a class or a style.
 *
 * @typedef {object} Host What is around the view, and does what its buttons ask for.
 * @property {(path: string, body: object) => Promise<object>} post Asks the cache: `invalidate`, `explain`, `rerun`;
 *   rejects with an `Error` whose message is a sentence.
 * @property {boolean} canControl Whether there is somebody to ask.
 * @property {string} [howToControl] A sentence that says how to get there, if not.
 * @property {() => (Promise<object|null>|null)} [fetchLive] What is not saved: age, latency, tier, state of each entry.
 * @property {"light"|"dark"|string} [theme] Else the page's own is followed.
 */

export const VERSION = 3;
const PAGE = 50;
const SLOW_MS = 2000;
const GLYPHS = { hit: "✓", similar: "≈", miss: "+", stale: "↻", refused: "!", bypass: "→", error: "✗", open: "…", unrecognised: "?" };
const NO_HOST = { post: () => Promise.reject(new Error(HOW)), canControl: false };
const HOW =
  "Buttons need the kernel or the server: in JupyterLab run `jupyter server extension enable genai_cache_magic` and " +
  "start it anew; anywhere else run %llm_cache panel.";

// -- numbers as people read them

export const whole = (n) => Number(n).toLocaleString("en-US");
export const counted = (n, one, many) => `${whole(n)} ${n === 1 ? one : (many ?? `${one}s`)}`;
const isText = (value) => typeof value === "string";
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const isRecord = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const count = (value) => (isNumber(value) ? value : 0);
const texts = (value) => (Array.isArray(value) ? value.filter(isText) : []);

/** Return a number that stands in a report as a decimal text, or null for what is unknown. */
function amount(value) {
  if (value === null || value === undefined || value === "" || value === "-") return null;
  const number = Number(value);
  return Number.isFinite(number) ? number : null;
}

/** Return `usd` with the digits that matter at its size, as the words under the cell have them. */
export function dollars(usd) {
  if (usd === null) return "unknown";
  if (usd === 0) return "$0";
  const size = Math.abs(usd);
  if (size >= 1) return `$${usd.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 })}`;
  if (size >= 0.001) return `$${usd.toFixed(4)}`;
  const digits = Math.min(20, 2 - Math.floor(Math.log10(size)));
  return `$${usd.toFixed(digits).replace(/0+$/, "")}`;
}

const UNITS = [["d", 86400], ["h", 3600], ["min", 60]];

/** Return a time span [s] in its largest unit. */
export function span(seconds) {
  if (seconds === null) return "";
  const found = UNITS.find(([, size]) => seconds >= size);
  if (found) return `${Math.floor(seconds / found[1])} ${found[0]}`;
  return seconds >= 10 ? `${Math.round(seconds)} s` : `${seconds.toFixed(seconds < 0.1 ? 3 : 1)} s`;
}

// -- reading a report

/** Return the calls of `report`, whatever its version: one object each, with null for what is not known. */
export function callsOf(report) {
  const tags = texts(report.tags);
  if (Array.isArray(report.calls)) return report.calls.filter(isRecord).map((call) => liveCall(call, tags));
  if (Array.isArray(report.kinds)) return report.kinds.filter(isRecord).flatMap((kind) => packedCalls(kind, tags));
  if (Array.isArray(report.rows)) return report.rows.filter(isRecord).map((row) => liveCall(row, tags)); // version 1
  return [];
}

const named = (value) => (isText(value) ? value : "");
const entryOf = (value) => (isText(value) && /^[0-9a-f]{16}$/.test(value) ? value : "");

function liveCall(call, tags) {
  return {
    outcome: named(call.outcome) || "unknown", tier: named(call.tier), stored: call.stored !== false,
    model: named(call.model) || named(call.provider), reason: named(call.reason), entry: entryOf(call.entry),
    answer: entryOf(call.given) || entryOf(call.entry), // what lies there: that of a similar question under its own id
    input: amount(call.input_tokens), cached: amount(call.cached_input_tokens), output: amount(call.output_tokens),
    spent: amount(call.spent_usd), saved: amount(call.saved_usd), sample: amount(call.sample),
    latency: amount(call.latency_s), age: amount(call.age_s), state: named(call.state),
    tags: Array.isArray(call.tags) ? texts(call.tags) : tags, count: count(call.count) || 1,
  };
}

/** Read the calls of one kind: texts of `ENTRY IN OUT USD [CACHED [SAMPLE [GIVEN]]]`, several in a line. */
function packedCalls(kind, tags) {
  const lines = texts(kind.calls).flatMap((line) => line.split(";")).map((line) => line.trim()).filter(Boolean);
  return lines.map((line) => {
    const [entry, input, output, usd, cached, sample, given] = line.split(" ");
    const isHit = SERVED.includes(kind.outcome);
    const numbers = {
      input_tokens: input, output_tokens: output, cached_input_tokens: cached ?? 0, sample: sample ?? 0,
      spent_usd: isHit ? 0 : usd, saved_usd: isHit ? usd : 0,
    };
    return liveCall({ ...kind, ...numbers, entry, given, count: 1 }, tags);
  });
}

/** Return the line that says what happened: what failed, what it cost, and then how it was answered, as `headline` does. */
export function inWords(report) {
  if (isText(report.estimate)) return report.estimate;
  const counts = ["hits", "similar", "misses", "bypassed", "errors", "open"].some((name) => count(report[name]) > 0);
  const others = isRecord(report.unrecognised) ? Object.entries(report.unrecognised) : [];
  if (!counts && !callsOf(report).length && !others.length) return "no model calls";
  const [money, read] = isRecord(report.totals) ? sums(report.totals) : ["", ""];
  const parts = [...failures(report, others), money, answered(report, others), read];
  if (isText(report.mode) && report.mode !== "use") parts.push(`mode ${report.mode}`);
  return parts.filter(Boolean).join(" · ");
}

/** Return what the line leads with: calls that failed, and what may cost without being known yet. */
function failures(report, others) {
  const parts = count(report.errors) ? [counted(report.errors, "error")] : [];
  if (count(report.open)) parts.push(`${counted(report.open, "call")} still open, price unknown`);
  return parts.concat(others.map(([host, n]) => `${counted(count(n), "request")} to ${host} ${count(n) === 1 ? "was" : "were"} not recognised`));
}

/** Return how calls were answered; nothing if the line has said it all by now. */
function answered(report, others) {
  const hasAnswers = ["hits", "similar", "misses", "bypassed"].some((name) => count(report[name]) > 0);
  if (!hasAnswers && (count(report.open) || others.length)) return "";
  const notStored = count(report.not_stored ?? report.refused);
  const parts = [counted(count(report.hits), "hit"), counted(count(report.misses), "miss", "misses")];
  if (count(report.similar)) parts.splice(1, 0, `${whole(report.similar)} similar`);
  if (notStored) parts.push(`${whole(notStored)} not stored`);
  if (count(report.bypassed)) parts.push(`${whole(report.bypassed)} bypassed`);
  return parts.join(", ");
}

function sums(totals) {
  const money = (name) => {
    const sum = amount(totals[`${name}_usd`]);
    const least = amount(totals[`${name}_at_least_usd`]);
    return `${name} ${sum === null && least !== null ? `at least ${dollars(least)}` : dollars(sum)}`;
  };
  const [input, output] = [totals.input_tokens, totals.output_tokens].map(amount);
  const read = input === null && output === null ? "tokens unknown" : `${tokensOf(input)} ${input === 1 ? "token" : "tokens"} in, ${tokensOf(output)} out`;
  return [`${money("spent")}, ${money("saved")}`, read];
}

/** Return why `report` can't be drawn, as a sentence; empty if it can. */
export function unreadable(report) {
  if (!isRecord(report)) return "There is no report to show here: run the cell again.";
  if (!Number.isInteger(report.version)) {
    return "This report does not say of which version it is, so it can't be shown: run the cell again.";
  }
  if (report.version > VERSION) {
    return `This report is of version ${report.version}, and this view reads versions 1 to ${VERSION}: ` +
      "install a newer genai-cache-magic (pip install --upgrade genai-cache-magic) and reload the page.";
  }
  return "";
}

const REQUIRED = {
  hits: isNumber, misses: isNumber, mode: isText, tags: Array.isArray, totals: (value) => value === null || isRecord(value),
  troubles: Array.isArray, hints: Array.isArray,
};

/** Return sentences about what is not in `report` and should be. */
function missing(report, calls) {
  const names = Object.keys(REQUIRED).filter((name) => !REQUIRED[name](report[name]));
  if (report.version === VERSION && ![report.kinds, report.calls].some(Array.isArray)) names.push("kinds");
  if (names.length) return [`This report lacks ${names.join(", ")}, or holds them in another form: what can be read is shown.`];
  const asked = ["hits", "misses", "bypassed", "errors"].some((name) => count(report[name]));
  return asked && !calls.length ? ["Its calls were not saved with it: run the cell again to see them."] : [];
}

const STORES_NOTHING = ["similar", "refused", "bypass", "error", "open", "unrecognised"];
const CHANGES = { "-": "gcm-removed", "+": "gcm-added" };
const ASKED = ["miss", "stale", "refused"];
const SERVED = ["hit", "similar"];

/** Return sentences about what a person would want to know of these calls, and what to do. */
function hintsOf(calls) {
  const told = [];
  const sum = (chosen) => calls.filter(chosen).reduce((total, call) => total + call.count, 0);
  const unpriced = sum((call) => (SERVED.includes(call.outcome) ? call.saved === null : ASKED.includes(call.outcome) && call.spent === null));
  if (unpriced) told.push(`The price of ${counted(unpriced, "call")} is unknown: sums are of what is known.`);
  const cut = sum((call) => call.outcome === "refused" && call.reason === "truncated");
  if (cut) told.push(`${counted(cut, "answer was", "answers were")} cut off and not stored: allow more tokens, or keep such answers by --store truncated.`);
  return told;
}

// -- the document

/** Make an element; `children` are elements or texts. */
export function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.map((child) => (isText(child) ? document.createTextNode(child) : child)));
  return made;
}

const COLUMNS = [
  { name: "outcome", title: "outcome", of: (c) => `${c.outcome}${c.tier ? ` ${c.tier}` : ""}`, always: true },
  { name: "model", title: "model", of: (c) => c.model },
  { name: "input", title: "tokens in", number: true, of: (c) => tokensOf(c.input) },
  { name: "cached", title: "provider-cached", number: true, of: (c) => (c.cached ? whole(c.cached) : "") },
  { name: "output", title: "tokens out", number: true, of: (c) => tokensOf(c.output) },
  { name: "spent", title: "spent", number: true, of: (c) => dollars(c.spent) },
  { name: "saved", title: "saved", number: true, of: (c) => dollars(c.saved) },
  { name: "latency", title: "latency", number: true, of: (c) => span(c.latency) },
  { name: "age", title: "age", number: true, of: (c) => (c.state && c.state !== "valid" ? c.state : span(c.age)) },
  { name: "sample", title: "sample", number: true, of: (c) => (c.sample ? String(c.sample) : "") },
  { name: "count", title: "calls", number: true, of: (c) => (c.count > 1 ? whole(c.count) : "") },
  { name: "tags", title: "tags", of: (c) => c.tags.join(", ") },
  { name: "reason", title: "reason", of: (c) => c.reason },
];

function tokensOf(value) {
  return value === null ? "unknown" : whole(value);
}

let serial = 0;

/** One view: what it shows, and what the person who looks at it has opened, sorted and typed. */
class View {
  constructor(element, host) {
    this.id = `gcm-${++serial}`;
    this.element = element;
    this.host = host;
    this.live = {};
    this.state = { isOpen: false, sort: "", isDescending: false, text: "", outcome: "", page: 0, explained: new Map() };
    this.glyph = make("span", { class: "gcm-glyph", "aria-hidden": "true" });
    this.summary = make("p", { class: "gcm-summary" });
    this.toolbar = make("div", { class: "gcm-buttons" });
    this.progress = make("div", { class: "gcm-progress" });
    this.notes = make("ul", { class: "gcm-notes" });
    this.asking = make("div", { class: "gcm-asking", role: "group", "aria-label": "confirmation", hidden: true });
    this.said = make("p", { class: "gcm-said", role: "status", "aria-live": "polite" });
    this.details = make("div", { id: this.id, class: "gcm-details", hidden: true });
    this.root = make(
      "section",
      { class: "gcm", "aria-label": "llm_cache" },
      make("style", {}, STYLE),
      make("div", { class: "gcm-head" }, this.glyph, this.summary, this.toolbar),
      this.progress, this.asking, this.said, this.notes, this.details,
    );
    element.replaceChildren(this.root);
    this.unfollow = followTheme(this.root, host);
  }

  /** Show `report` in the place of what was shown. */
  update(report) {
    const why = unreadable(report);
    this.report = isRecord(report) ? report : {};
    this.isReadable = !why;
    this.calls = why ? [] : callsOf(this.report);
    this.details.hidden = !(this.state.isOpen && this.calls.length);
    this.summary.textContent = why || inWords(this.report);
    if (why && isText(this.report.headline)) this.summary.append(document.createTextNode(` It said: ${this.report.headline}`));
    const how = why ? "" : mood(this.report, this.calls);
    this.glyph.textContent = GLYPHS[how] ?? "";
    this.glyph.dataset.outcome = how;
    this.glyph.hidden = !how;
    this.drawNotes();
    this.drawProgress();
    this.drawToolbar();
    this.drawTable();
  }

  drawNotes() {
    const { report } = this;
    const extra = this.isReadable ? missing(report, this.calls) : [];
    const lines = [
      ...texts(report.troubles).map((text) => ["gcm-trouble", `! ${text}`]),
      ...[...extra, ...texts(report.hints), ...hintsOf(this.calls), ...texts(this.live.notes)].map((text) => ["gcm-hint", text]),
    ];
    if (count(report.more)) lines.push(["gcm-hint", `and ${counted(report.more, "more call")} that the saved report has no room for`]);
    this.notes.replaceChildren(...lines.map(([kind, text]) => make("li", { class: kind }, text)));
    this.notes.hidden = !lines.length;
  }

  drawProgress() {
    const now = this.isReadable && isRecord(this.report.progress) ? this.report.progress : null;
    this.progress.hidden = now === null;
    if (now === null) {
      this.progress.replaceChildren();
      return;
    }
    const done = count(now.done);
    const expected = count(now.expected);
    const parts = [
      `${expected ? `${whole(done)} of about ${whole(expected)}` : whole(done)} done`,
      `${whole(count(now.in_flight))} in flight`,
      `spent ${dollars(amount(now.spent_usd))} so far`,
    ];
    if (amount(now.eta_s) !== null) parts.push(`about ${span(Math.max(1, amount(now.eta_s)))} left`);
    // Without a value the bar says that something goes on.
    const bar = make("progress", { max: expected || 1, "aria-label": "calls of this cell" });
    if (expected) bar.value = Math.min(done, expected);
    this.progress.replaceChildren(bar, make("span", {}, parts.join(", ")));
  }

  drawToolbar() {
    const focused = this.toolbar.contains(document.activeElement) ? document.activeElement.dataset.does : "";
    const buttons = [];
    if (this.calls.length) {
      const title = `${this.state.isOpen ? "Hide" : "Show"} ${counted(this.calls.length, "call")}`;
      buttons.push(button(title, "toggle", () => this.toggle(), { "aria-expanded": String(this.state.isOpen), "aria-controls": this.id }));
    }
    if (this.isReadable) {
      buttons.push(button("Re-run fresh", "rerun", () => this.rerun(), { title: "Run the cell again and ask the models anew" }));
      if (this.entries().length) {
        buttons.push(button("Invalidate this cell", "invalidate", () => this.askInvalidate(this.entries(), "this cell"), { title: "Make the answers of this cell invalid: they are counted first" }));
      }
    }
    this.toolbar.replaceChildren(...buttons);
    buttons.find((one) => one.dataset.does === focused)?.focus();
  }

  /** Return under which ids the answers lie that the cell was given. */
  entries() {
    return [...new Set(this.calls.map((call) => call.answer).filter(Boolean))];
  }

  toggle() {
    this.state.isOpen = !this.state.isOpen;
    this.details.hidden = !this.state.isOpen;
    this.drawToolbar();
    this.drawTable();
    if (this.state.isOpen) this.refresh();
  }

  /** Ask for what is not saved, if anybody knows it. */
  async refresh() {
    try {
      const live = await this.host.fetchLive?.();
      if (!isRecord(live)) return;
      this.live = live;
    } catch (error) {
      this.say(sentence(error));
    }
    this.drawNotes();
    this.drawTable();
  }

  // -- the table

  /** Return the calls that are looked for, in the order that is asked for. */
  chosen() {
    const { text, outcome, sort, isDescending } = this.state;
    const known = isRecord(this.live.entries) ? this.live.entries : {};
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = this.calls.map((call, at) => ({ ...call, ...liveFacts(factsOf(known, call), call), at }));
    const found = rows.filter((row) => {
      if (outcome && row.outcome !== outcome) return false;
      const all = [row.outcome, row.tier, row.model, row.reason, row.entry, ...row.tags].join(" ").toLowerCase();
      return words.every((word) => all.includes(word));
    });
    const column = COLUMNS.find(({ name }) => name === sort);
    if (column) found.sort((a, b) => compare(a, b, column) * (isDescending ? -1 : 1) || a.at - b.at);
    return { rows, found };
  }

  drawTable() {
    if (this.details.hidden || !this.calls.length) {
      this.details.replaceChildren();
      this.parts = null;
      return;
    }
    if (!this.parts) this.makeTable();
    const { rows, found } = this.chosen();
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    this.state.page = Math.min(this.state.page, pages - 1);
    const first = this.state.page * PAGE;
    const shown = found.slice(first, first + PAGE);
    const columns = COLUMNS.filter((column) => column.always || rows.some((row) => column.of(row) !== ""));
    const focused = this.details.contains(document.activeElement) ? document.activeElement.dataset.does : "";
    this.parts.head.replaceChildren(make("tr", { role: "row" }, ...columns.map((column) => this.heading(column)), make("th", { role: "columnheader", scope: "col" }, "actions")));
    this.parts.body.replaceChildren(...shown.flatMap((row) => this.rowsOf(row, columns)));
    this.parts.range.textContent = found.length
      ? `${whole(first + 1)} to ${whole(first + shown.length)} of ${counted(found.length, "call")}`
      : "no call matches";
    this.parts.previous.disabled = this.state.page === 0;
    this.parts.next.disabled = this.state.page >= pages - 1;
    this.parts.pager.hidden = pages === 1 && found.length === rows.length && rows.length <= PAGE;
    if (focused) this.details.querySelector(`[data-does="${CSS.escape(focused)}"]`)?.focus();
  }

  makeTable() {
    const redraw = () => {
      this.state.page = 0;
      this.drawTable();
    };
    const filter = make("input", {
      type: "search", "data-does": "filter", placeholder: "model, tag, reason, entry",
      oninput: (event) => { this.state.text = event.target.value; redraw(); },
    });
    filter.value = this.state.text;
    const outcomes = [...new Set(this.calls.map((call) => call.outcome))].sort();
    const choice = make("select", { "data-does": "outcome", onchange: (event) => { this.state.outcome = event.target.value; redraw(); } },
      make("option", { value: "" }, "all outcomes"), ...outcomes.map((name) => make("option", { value: name }, name)));
    choice.value = this.state.outcome;
    const turn = (by) => () => { this.state.page += by; this.drawTable(); };
    const parts = {
      head: make("thead", { role: "rowgroup" }), body: make("tbody", { role: "rowgroup" }), range: make("span", { "aria-live": "polite" }),
      previous: button("Previous", "previous", turn(-1)), next: button("Next", "next", turn(1)),
    };
    parts.pager = make("div", { class: "gcm-pager" }, parts.previous, parts.range, parts.next);
    // Explicit roles: in a narrow place the table is laid out as cards, which costs an element its own.
    const table = make("table", { role: "table", "aria-label": "calls of this cell" }, parts.head, parts.body);
    this.parts = parts;
    this.details.replaceChildren(
      make("div", { class: "gcm-filter" }, make("label", {}, "Filter ", filter), make("label", {}, "Outcome ", choice)),
      make("div", { class: "gcm-scroll", tabindex: "0", role: "region", "aria-label": "table of calls" }, table),
      parts.pager,
    );
  }

  heading(column) {
    const isSorted = this.state.sort === column.name;
    const order = isSorted ? (this.state.isDescending ? "descending" : "ascending") : "none";
    const sort = () => {
      Object.assign(this.state, { isDescending: isSorted ? !this.state.isDescending : Boolean(column.number), sort: column.name, page: 0 });
      this.drawTable();
    };
    const arrow = make("span", { "aria-hidden": "true", class: "gcm-arrow" }, isSorted ? (this.state.isDescending ? "▼" : "▲") : "↕");
    return make("th", { role: "columnheader", scope: "col", "aria-sort": order, class: column.number ? "gcm-number" : null },
      make("button", { type: "button", "data-does": `sort-${column.name}`, onclick: sort }, column.title, arrow));
  }

  rowsOf(row, columns) {
    const cells = columns.map((column) => {
      const shown = column.of(row);
      const cell = make("td", { role: "cell", "data-title": column.title, class: column.number ? "gcm-number" : null });
      if (column.name === "outcome") cell.append(make("span", { "aria-hidden": "true", class: "gcm-glyph", "data-outcome": known(row.outcome) }, GLYPHS[known(row.outcome)] ?? "·"));
      cell.append(document.createTextNode(shown));
      if (!shown) cell.classList.add("gcm-none");
      return cell;
    });
    const rows = [make("tr", { role: "row" }, ...cells, make("td", { role: "cell", class: "gcm-actions" }, ...this.actions(row)))];
    const explained = this.state.explained.get(row.at);
    if (explained) {
      rows.push(make("tr", { role: "row" }, make("td", { role: "cell", class: "gcm-explained", colspan: columns.length + 1 },
        ...explained.map(([kind, line]) => make("div", { class: kind || null }, line)))));
    }
    return rows;
  }

  actions(row) {
    const call = `call ${row.at + 1}`;
    const buttons = [];
    if (row.outcome !== "hit") {
      buttons.push(button("Explain", `explain-${row.at}`, () => this.explain(row), { "aria-label": `Explain ${call}`, "aria-expanded": String(this.state.explained.has(row.at)) }));
    }
    if (row.answer && (row.answer !== row.entry || !STORES_NOTHING.includes(row.outcome))) {
      buttons.push(button("Invalidate", `invalidate-${row.at}`, () => this.askInvalidate([row.answer], call), { "aria-label": `Invalidate ${call}` }));
    }
    const copied = selector(row);
    if (copied) buttons.push(button("Copy tag", `copy-${row.at}`, () => this.copy(copied), { "aria-label": `Copy ${copied}`, title: copied }));
    return buttons;
  }

  // -- what the buttons do

  /** Ask the host, and say what it says; returns null if it can't or failed. */
  async ask(path, body, doing) {
    if (!this.host.canControl) {
      this.say(this.host.howToControl || HOW);
      return null;
    }
    this.say(`${doing}…`);
    const slow = setTimeout(() => this.say(`${doing}… The answer takes a while: a kernel that runs a cell answers after it.`), SLOW_MS);
    try {
      const answer = await this.host.post(path, { store: named(this.report.store), ...body });
      return isRecord(answer) ? answer : {};
    } catch (error) {
      this.say(sentence(error));
      return null;
    } finally {
      clearTimeout(slow);
    }
  }

  async askInvalidate(entries, what) {
    const opener = document.activeElement;
    const counted_ = await this.ask("invalidate", { entries, dry_run: true }, "Counting");
    if (counted_ === null) return;
    const n = count(counted_.count);
    if (!n) {
      this.say(named(counted_.sentence) || `Nothing to invalidate: no valid answer of ${what} is stored any more.`);
      return;
    }
    this.say("");
    const close = () => {
      this.asking.hidden = true;
      this.asking.replaceChildren();
      if (opener?.isConnected) opener.focus();
      else this.toolbar.querySelector("button")?.focus();
    };
    const yes = button(`Invalidate ${counted(n, "answer")}`, "yes", async () => {
      close();
      const done = await this.ask("invalidate", { entries, dry_run: false }, "Invalidating");
      if (done === null) return;
      this.say(named(done.sentence) || `${counted(count(done.count), "answer")} made invalid.`);
      this.refresh();
    }, { class: "gcm-danger" });
    const no = button("Cancel", "no", close);
    const of = isNumber(counted_.known) ? ` of ${counted(counted_.known, "known answer")}` : "";
    this.asking.replaceChildren(make("span", {}, `${whole(n)}${of} would be invalid, for everyone who shares them (${what}).`), yes, no);
    this.asking.onkeydown = (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      close();
    };
    this.asking.hidden = false;
    no.focus();
  }

  async rerun() {
    const done = await this.ask("rerun", { fresh: true }, "Running the cell again");
    if (done !== null) this.say(named(done.sentence) || "The cell runs again, and asks the models anew.");
  }

  async explain(row) {
    if (this.state.explained.delete(row.at)) {
      this.drawTable();
      return;
    }
    const own = row.reason ? [row.reason] : [];
    let lines = own.map((line) => ["", line]);
    if (this.host.canControl && row.entry) {
      const found = await this.ask("explain", { entry: row.entry, reason: row.reason, outcome: row.outcome }, "Looking for the nearest call");
      if (found === null && !own.length) return; // it is said why
      if (found !== null) this.say("");
      const { differs, diff, notes } = found ?? {};
      lines = [["", named(found?.reason) || row.reason || "it was not in the cache"],
        ...(texts(differs).length ? [["", `differs from the nearest stored call in: ${texts(differs).join(", ")}`]] : []),
        ...texts(diff).map((line) => [CHANGES[line[0]] ?? "gcm-kept", line]), ...texts(notes).map((line) => ["", line])];
    } else if (!own.length) lines = [["", this.host.canControl ? "it was not in the cache" : this.host.howToControl || HOW]];
    this.state.explained.set(row.at, lines);
    this.drawTable();
  }

  async copy(text) {
    try {
      await (navigator.clipboard ? navigator.clipboard.writeText(text) : copyBySelection(text));
      this.say(`Copied: ${text}`);
    } catch {
      this.say(`This page may not write to the clipboard; it would be: ${text}`);
    }
  }

  say(text) {
    this.said.textContent = text;
  }

  destroy() {
    this.unfollow();
    this.root.remove();
  }
}

/** Let `root` have the theme of what is around it, now and when that changes; returns how to end it. */
export function followTheme(root, host) {
  const apply = () => {
    const theme = themeOf(host);
    if (theme) root.dataset.theme = theme;
    else delete root.dataset.theme;
  };
  const watch = new MutationObserver(() => root.isConnected && apply());
  watch.observe(document.body, { attributes: true, attributeFilter: ["class", "data-jp-theme-light", "data-vscode-theme-kind"] });
  apply();
  return () => watch.disconnect();
}

function themeOf(host) {
  if (host.theme === "light" || host.theme === "dark") return host.theme;
  const { dataset, classList } = document.body;
  if (dataset.jpThemeLight) return dataset.jpThemeLight === "true" ? "light" : "dark";
  const kind = dataset.vscodeThemeKind ?? "";
  if (kind) return /light/.test(kind) ? "light" : "dark";
  if (classList.contains("dark") || classList.contains("dark-theme")) return "dark"; // marimo
  return "";
}

/** Return the outcome whose glyph tells at a glance how it went: a call failed, something is to be read, or all is well. */
function mood(report, calls) {
  if (isText(report.estimate)) return calls.every((call) => call.outcome === "hit") ? "hit" : "refused"; // what was stopped did not fail
  if (count(report.errors)) return "error";
  const isToRead = ["bypassed", "refused", "open"].some((name) => count(report[name])) || texts(report.troubles).length;
  if (isToRead || calls.some((call) => call.outcome === "unrecognised")) return "refused";
  return ["hits", "similar", "misses"].some((name) => count(report[name])) ? "hit" : "";
}

const known = (outcome) => (Object.hasOwn(GLYPHS, outcome) ? outcome : "");

/** Return what was fetched of `call`: a kernel names what was asked, a server under which id the answer lies. */
function factsOf(known, call) {
  const name = [call.entry, call.answer].find((one) => Object.hasOwn(known, one));
  return name === undefined ? null : known[name];
}

function liveFacts(found, call) {
  if (!isRecord(found)) return {};
  return {
    latency: amount(found.latency_s) ?? call.latency, age: amount(found.age_s) ?? call.age,
    tier: call.outcome === "hit" ? call.tier || named(found.tier) : "", state: named(found.state),
  };
}

function compare(a, b, column) {
  const [one, other] = [a[column.name], b[column.name]];
  if (column.number) return (one ?? -1) - (other ?? -1);
  return column.of(a).localeCompare(column.of(b), "en");
}

/** Return what, after `%llm_cache invalidate`, selects this call's answers. */
function selector(call) {
  if (call.tags.length) return call.tags.map((tag) => `--tag ${/^[\w.:@/+-]+$/.test(tag) ? tag : `'${tag.replaceAll("'", `'"'"'`)}'`}`)[0];
  return call.answer ? `--entry ${call.answer}` : "";
}

/** Copy `text` in a page that came by plain HTTP, where there is no other way. */
function copyBySelection(text) {
  const before = document.activeElement;
  const area = make("textarea", { "aria-hidden": "true", style: "position: fixed; opacity: 0" });
  area.value = text;
  document.body.append(area);
  area.select();
  const isDone = document.execCommand("copy");
  area.remove();
  before?.focus();
  if (!isDone) throw new Error("refused");
}

export function button(title, does, act, attributes = {}) {
  return make("button", { type: "button", "data-does": does, onclick: act, ...attributes }, title);
}

export function sentence(error) {
  const text = error instanceof Error ? error.message : named(error);
  return text || "That did not work, and nobody said why: look into the log of the server.";
}

/**
 * Draw `report` into `element`.
 *
 * @param {HTMLElement} element Emptied first.
 * @param {object} report A call report of any version.
 * @param {Host} [host]
 * @returns {{update: (report: object) => void, destroy: () => void}}
 */
export function draw(element, report, host = NO_HOST) {
  const view = new View(element, { ...NO_HOST, ...host });
  view.update(report);
  return { update: (newer) => view.update(newer), destroy: () => view.destroy() };
}

/** Return a host that speaks to the kernel by the messages of an anywidget model. */
export function kernelHost(model) {
  const waiting = new Map();
  let last = 0;
  model.on("msg:custom", (message) => {
    const asked = isRecord(message) ? waiting.get(message.id) : undefined;
    if (!asked) return;
    waiting.delete(message.id);
    if (isText(message.error)) asked.reject(new Error(message.error));
    else asked.resolve(message.answer);
  });
  const post = (path, body) =>
    new Promise((resolve, reject) => {
      const id = ++last;
      waiting.set(id, { resolve, reject });
      model.send({ id, path, body });
    });
  return { post, canControl: true, fetchLive: () => post("live", {}) };
}

function render({ model, el }) {
  const view = draw(el, model.get("report"), kernelHost(model));
  const update = () => view.update(model.get("report"));
  model.on("change:report", update);
  return () => {
    model.off("change:report", update);
    view.destroy();
  };
}

const DARK = `--gcm-fg: var(--jp-ui-font-color1, var(--vscode-foreground, #e6edf3)); --gcm-dim: var(--vscode-descriptionForeground, #a5adb8);
  --gcm-line: var(--jp-border-color2, var(--vscode-panel-border, #3d444d));
  --gcm-good: #4ac26b; --gcm-bad: #ff8a80; --gcm-look: #e3b341; --gcm-link: #79b8ff; color-scheme: dark;`;

export const STYLE = `
.gcm { --gcm-fg: var(--jp-ui-font-color1, var(--vscode-foreground, #1f2328)); --gcm-dim: var(--vscode-descriptionForeground, #59636e);
  --gcm-line: var(--jp-border-color2, var(--vscode-panel-border, #d1d9e0));
  --gcm-good: #1a7f37; --gcm-bad: #b3261e; --gcm-look: #7d4e00; --gcm-link: #0550ae; --gcm-fill: rgba(127, 127, 127, .12); color-scheme: light;
  color: var(--gcm-fg); font: 13px/1.45 var(--jp-ui-font-family, var(--vscode-font-family, system-ui, sans-serif));
  container-type: inline-size; overflow-wrap: anywhere; padding: 2px 0 4px; }
.gcm[data-theme="dark"] { ${DARK} }
@media (prefers-color-scheme: dark) { .gcm:not([data-theme]) { ${DARK} } }
.gcm [hidden] { display: none !important; }
.gcm p, .gcm ul { margin: 0; padding: 0; }
.gcm-head { display: flex; flex-wrap: wrap; gap: 4px 0; align-items: baseline; }
.gcm-summary { flex: 1 1 20em; margin-right: 12px !important; }
.gcm-buttons, .gcm-asking, .gcm-pager, .gcm-filter { display: flex; flex-wrap: wrap; gap: 4px 8px; align-items: center; }
.gcm button { font: inherit; color: var(--gcm-link); background: none; border: 1px solid var(--gcm-line); border-radius: 4px;
  padding: 1px 8px; min-height: 24px; cursor: pointer; overflow-wrap: normal; }
.gcm button:hover:not(:disabled) { background: var(--gcm-fill); }
.gcm button:focus-visible, .gcm input:focus-visible, .gcm select:focus-visible, .gcm-scroll:focus-visible {
  outline: 2px solid var(--gcm-link); outline-offset: 1px; }
.gcm button:disabled { color: var(--gcm-dim); cursor: default; opacity: .7; }
.gcm button.gcm-danger { color: var(--gcm-bad); border-color: var(--gcm-bad); }
.gcm input, .gcm select { font: inherit; color: inherit; background: var(--jp-layout-color1, Canvas); border: 1px solid var(--gcm-line);
  border-radius: 4px; padding: 1px 6px; min-height: 24px; max-width: 100%; box-sizing: border-box; }
.gcm input { width: 17em; }
.gcm-progress { display: flex; flex-wrap: wrap; gap: 4px 12px; align-items: center; margin-top: 4px; }
.gcm-progress progress { width: 12em; max-width: 100%; accent-color: var(--gcm-link); }
.gcm-asking { margin-top: 6px; padding: 6px 8px; border: 1px solid var(--gcm-bad); border-radius: 4px; }
.gcm-said:not(:empty) { margin-top: 4px !important; }
.gcm ul.gcm-notes { list-style: none; margin-top: 4px; color: var(--gcm-dim); }
.gcm-notes .gcm-trouble { color: var(--gcm-look); }
.gcm-details { margin-top: 8px; }
.gcm-scroll { overflow: auto; margin: 6px 0; max-height: 32em; }
.gcm table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 12px; overflow-wrap: break-word; }
.gcm th, .gcm td { text-align: left; vertical-align: baseline; padding: 3px 6px; border-bottom: 1px solid var(--gcm-line); white-space: normal; max-width: 24em; }
.gcm th { vertical-align: bottom; font-weight: 600; }
.gcm th button { border: 0; padding: 0 13px 0 0; color: inherit; font-weight: 600; text-align: inherit; position: relative; vertical-align: bottom; min-height: 0; }
.gcm .gcm-number { text-align: right; white-space: nowrap; }
.gcm th.gcm-number { white-space: normal; }
.gcm-arrow { position: absolute; right: 1px; bottom: 0; font-weight: 400; color: var(--gcm-dim); }
.gcm-glyph { display: inline-block; width: 1.4em; font-weight: 700; }
.gcm-glyph[data-outcome="hit"] { color: var(--gcm-good); }
.gcm-glyph[data-outcome="error"] { color: var(--gcm-bad); }
.gcm-glyph:is([data-outcome="refused"], [data-outcome="bypass"], [data-outcome="stale"], [data-outcome="unrecognised"]) { color: var(--gcm-look); }
.gcm-actions button { border-color: transparent; padding: 0 4px; font-size: 12px; }
.gcm td.gcm-explained { white-space: pre-wrap; background: var(--gcm-fill); max-width: none; }
.gcm-removed, .gcm-added, .gcm-kept { font-family: var(--jp-code-font-family, var(--vscode-editor-font-family, ui-monospace, monospace)); }
.gcm-removed { color: var(--gcm-bad); } .gcm-added { color: var(--gcm-good); }
.gcm-pager { color: var(--gcm-dim); }
@container (min-width: 800px) and (max-width: 1000px) {
  .gcm th, .gcm td { padding-left: 3px; padding-right: 4px; } .gcm td.gcm-actions { min-width: 10.8em; padding-right: 0; }
  .gcm-actions button { padding: 0 3px; }
}
@container (min-width: 1000px) { .gcm td.gcm-actions { white-space: nowrap; } }
@container (max-width: 640px) {
  .gcm table, .gcm thead, .gcm tbody, .gcm tbody tr { display: block; }
  .gcm thead tr { display: flex; flex-wrap: wrap; gap: 0 10px; } .gcm thead tr::before { content: "Sort by"; align-self: center; color: var(--gcm-dim); }
  .gcm th { padding: 3px 0; border: 0; } .gcm thead th:last-child { display: none; }
  .gcm tbody tr { border-bottom: 1px solid var(--gcm-line); padding: 6px 0; }
  .gcm tbody td { display: inline-block; border: 0; padding: 1px 14px 1px 0; text-align: left; white-space: normal; }
  .gcm tbody td[data-title]::before { content: attr(data-title) " "; color: var(--gcm-dim); }
  .gcm tbody td[data-title="outcome"]::before, .gcm tbody td[data-title="model"]::before { content: none; }
  .gcm tbody td[data-title="outcome"], .gcm tbody td[data-title="model"] { font-weight: 600; }
  .gcm tbody td.gcm-none { display: none; } .gcm tbody td.gcm-actions, .gcm tbody td.gcm-explained { display: block; }
  .gcm-actions button:first-child { margin-left: -4px; }
  .gcm-filter label { flex: 1 1 100%; } .gcm-scroll { max-height: none; }
}
`;

export default { render };
