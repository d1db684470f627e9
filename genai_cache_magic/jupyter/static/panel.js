/**
 * `%llm_cache panel`: the last cell, what today cost and saved, what the cache holds, by search, tag and model.
 *
 * SECURITY: as `cell_status.js`, all that comes from the cache is text, never markup.
 */

import { STYLE, button, counted, dollars, draw, followTheme, kernelHost, make, sentence, whole } from "./cell_status.js";

const SHOWN = 20;
const WAIT_MS = 250;
const MODELS = ["model", "calls", "hits", "spent", "saved"];
const TAGS = ["tag", "answers", ""];
const ANSWERS = ["name", "tags", "stored", "tokens in / out", "cost", ""];

class Panel {
  constructor(element, report, host) {
    this.host = host;
    this.offset = 0;
    this.last = make("div");
    this.today = make("p", {}, "…");
    this.said = make("p", { class: "gcm-said", role: "status", "aria-live": "polite" });
    this.asking = make("div", { class: "gcm-asking", role: "group", "aria-label": "confirmation", hidden: true });
    this.models = make("tbody");
    this.tags = make("tbody");
    this.entries = make("tbody");
    this.range = make("span", { "aria-live": "polite" });
    this.search = make("input", { type: "search", placeholder: "name", oninput: () => this.soon() });
    this.previous = button("Previous", "panel-previous", () => this.turn(-SHOWN));
    this.next = button("Next", "panel-next", () => this.turn(SHOWN));
    this.root = make(
      "section", { class: "gcm gcm-panel", "aria-label": "llm_cache panel" }, make("style", {}, `${STYLE}${PANEL_STYLE}`),
      this.last,
      make("div", { class: "gcm-head" }, make("h3", {}, "Today"), button("Refresh", "panel-refresh", () => this.refresh())),
      this.today, this.asking, this.said,
      make("h3", {}, "Models by cost, 30 days"), table("models by cost", MODELS, this.models),
      make("h3", {}, "Tags"), table("tags", TAGS, this.tags),
      make("h3", {}, "Answers"), make("div", { class: "gcm-filter" }, make("label", {}, "Search ", this.search)),
      table("answers", ANSWERS, this.entries),
      make("div", { class: "gcm-pager" }, this.previous, this.range, this.next),
    );
    element.replaceChildren(this.root);
    this.unfollow = followTheme(this.root, host);
    if (typeof report?.version === "number") draw(this.last, report, host);
    this.refresh();
  }

  async ask(path, body) {
    try {
      return await this.host.post(path, body);
    } catch (error) {
      this.said.textContent = sentence(error);
      return null;
    }
  }

  async refresh() {
    this.said.textContent = "";
    const [today, month, stats] = await Promise.all([
      this.ask("usage", { since: "today", by: ["model"] }), this.ask("usage", { since: "30d", by: ["model"] }), this.ask("stats", {}),
    ]);
    if (today) this.today.textContent = sumOf(today.total);
    if (month) this.models.replaceChildren(...month.rows.sort(byCost).map((row) => line(MODELS, row.model || "unknown", calls(row), whole(row.hits), spent(row), saved(row))));
    if (stats) {
      this.tags.replaceChildren(...stats.tags.map((tag) => line(TAGS, tag.name, whole(tag.count),
        button("Invalidate", "panel-tag", () => this.askInvalidate({ tag: tag.name }, `tag ${tag.name}`), { "aria-label": `Invalidate tag ${tag.name}` }))));
    }
    await this.list();
  }

  soon() {
    clearTimeout(this.timer);
    this.offset = 0;
    this.timer = setTimeout(() => this.list(), WAIT_MS);
  }

  turn(by) {
    this.offset = Math.max(0, this.offset + by);
    this.list();
  }

  async list() {
    const question = (this.question = (this.question ?? 0) + 1);
    const found = await this.ask("entries", { search: this.search.value, offset: this.offset, limit: SHOWN });
    if (!found || question !== this.question) return; // an answer to an earlier question
    this.entries.replaceChildren(...found.entries.map((entry) => line(
      ANSWERS, entry.name, entry.tags.join(", "), String(entry.stored ?? "").slice(0, 16).replace("T", " "),
      `${entry.input_tokens ?? "?"} / ${entry.output_tokens ?? "?"}`, dollars(entry.cost_usd === null ? null : Number(entry.cost_usd)),
      button("Invalidate", "panel-entry", () => this.askInvalidate({ entries: [entry.id] }, entry.name), { "aria-label": `Invalidate ${entry.name}, ${entry.id}` }),
    )));
    const last = this.offset + found.entries.length;
    this.range.textContent = found.total ? `${whole(this.offset + 1)} to ${whole(last)} of ${counted(found.total, "answer")}` : "no answer is like that";
    this.previous.disabled = this.offset === 0;
    this.next.disabled = last >= found.total;
  }

  async askInvalidate(selection, what) {
    const counted_ = await this.ask("invalidate", { ...selection, dry_run: true });
    if (!counted_) return;
    const opener = document.activeElement;
    const close = () => {
      this.asking.hidden = true;
      this.asking.replaceChildren();
      if (opener?.isConnected) opener.focus();
    };
    const yes = button(`Invalidate ${counted(counted_.count, "answer")}`, "panel-yes", async () => {
      close();
      const done = await this.ask("invalidate", { ...selection, dry_run: false });
      if (!done) return;
      await this.refresh();
      this.said.textContent = done.sentence;
    }, { class: "gcm-danger" });
    const no = button("Cancel", "panel-no", close);
    this.asking.replaceChildren(make("span", {}, `${what}: ${counted_.sentence}.`), ...(counted_.count ? [yes] : []), no);
    this.asking.onkeydown = (event) => event.key === "Escape" && close();
    this.asking.hidden = false;
    no.focus();
  }

  destroy() {
    clearTimeout(this.timer);
    this.unfollow();
    this.root.remove();
  }
}

const calls = (row) => whole(row.hits + (row.similar ?? 0) + row.misses + row.bypassed + row.errors + row.unrecognised);
const amountOf = (usd, unknown) => (unknown && !Number(usd) ? "unknown" : `${unknown ? "at least " : ""}${dollars(Number(usd))}`);
const spent = (row) => amountOf(row.spent_usd, row.spent_unknown);
const saved = (row) => amountOf(row.saved_usd, row.saved_unknown);
const byCost = (a, b) => Number(b.spent_usd) - Number(a.spent_usd) || Number(b.saved_usd) - Number(a.saved_usd);

function sumOf(total) {
  const asked = total.hits + total.misses;
  const rate = asked ? `, ${Math.round((100 * total.hits) / asked)}% hits` : "";
  return `spent ${spent(total)}, saved ${saved(total)}, ${counted(total.hits, "hit")}, ${counted(total.misses, "miss", "misses")}${rate}`;
}

function table(label, titles, body) {
  const head = make("tr", {}, ...titles.map((title) => make("th", { scope: "col" }, title || "actions")));
  return make("div", { class: "gcm-scroll", tabindex: "0", role: "region", "aria-label": label }, make("table", { class: "gcm-plain", "aria-label": label }, make("thead", {}, head), body));
}

/** Return a row; in a narrow place, where the headings are away, each cell but the first says what it is. */
function line(titles, ...cells) {
  const title = (n) => (n && titles[n] ? titles[n] : null);
  return make("tr", {}, ...cells.map((cell, n) => make("td", { "data-title": title(n), class: cell === "" ? "gcm-none" : null }, cell)));
}

const PANEL_STYLE = `
.gcm-panel h3 { font-size: 13px; margin: 12px 0 2px; flex: 1; }
.gcm-panel .gcm-scroll { max-height: 18em; margin: 2px 0; }
.gcm-panel tbody:empty::after { content: "none"; color: var(--gcm-dim); }
@container (max-width: 640px) {
  .gcm .gcm-plain thead { display: none; } .gcm .gcm-plain tbody td { padding: 1px 12px 1px 0; }
  .gcm .gcm-plain tbody td:first-child { font-weight: 600; }
}
`;

/** Draw the panel into `element`; `host.post` answers `usage`, `stats`, `entries` and `invalidate`. */
export function drawPanel(element, report, host) {
  const panel = new Panel(element, report, host);
  return { destroy: () => panel.destroy() };
}

function renderPanel({ model, el }) {
  const panel = drawPanel(el, model.get("report"), kernelHost(model));
  return () => panel.destroy();
}

export default { render: renderPanel };
