"""Take pictures of the view of a cell in each of its states: `make pictures`, after a change of how it looks.

A plain page draws reports that are made up, in Chromium. Look at all of them, in demo-output/pictures; the
documentation shows some.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, Route, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
STATIC = ROOT / "genai_cache_magic" / "jupyter" / "static"
ALL = ROOT / "demo-output" / "pictures"
IMAGES = ROOT / "docs" / "images"
SHOWN = ("view-open-light.png", "view-open-dark.png", "view-running-light.png", "view-running-dark.png")
"""What the documentation shows."""
PLACE = "http://localhost/"
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>view</title>
<style>:root { color-scheme: light dark } body { margin: 12px; background: Canvas }</style></head>
<body><main id="place"></main><script type="module">
import {draw} from "/cell_status.js";
const post = async (path) => path === "invalidate" ? {count: 3, known: 41} :
  {reason: "", differs: ["body.messages[0]"],
   diff: ["body.messages[0].content", "- Is it good? It lasts days.", "+ Is it good? It lasts a week."]};
window.show = (report, canControl) => draw(document.getElementById("place"), report, {post, canControl});
</script></body></html>"""

CHAT = {"provider": "openai.chat", "model": "gpt-4.1-mini"}
USUAL: dict[str, Any] = {
    "version": 3,
    "headline": "",
    "mode": "use",
    "run": "",
    "tags": ["reviews"],
    "hits": 2,
    "misses": 2,
    "not_stored": 1,
    "bypassed": 0,
    "refused": 1,
    "errors": 0,
    "open": 0,
    "unrecognised": {},
    "totals": {"input_tokens": 4136, "output_tokens": 890, "spent_usd": "0.0041", "saved_usd": "0.0163"},
    "troubles": [],
    "hints": [],
    "calls": [
        {**CHAT, "outcome": "hit", "tier": "L1", "entry": "20112233445566aa", "input_tokens": 1034,
         "output_tokens": 201, "cached_input_tokens": 512,
         "spent_usd": "0", "saved_usd": "0.0091", "latency_s": 0.0021, "age_s": 300000},
        {**CHAT, "outcome": "hit", "tier": "L2", "entry": "30112233445566aa", "input_tokens": 1034,
         "output_tokens": 198, "spent_usd": "0", "saved_usd": "0.0072", "latency_s": 0.0304, "age_s": 7300},
        {**CHAT, "outcome": "miss", "entry": "00112233445566aa", "input_tokens": 1034, "output_tokens": 267,
         "spent_usd": "0.0012", "saved_usd": "0", "latency_s": 1.53, "age_s": 4},
        {**CHAT, "outcome": "refused", "input_tokens": 1034, "output_tokens": 224, "spent_usd": "0.0029",
         "saved_usd": "0", "latency_s": 2.2, "reason": "truncated"},
    ],
}  # fmt: skip
NOTHING = {"hits": 0, "misses": 0, "not_stored": 0, "refused": 0, "calls": [], "totals": None}
RUNNING = {"progress": {"done": 12, "in_flight": 4, "expected": 40, "spent_usd": "0.0041", "eta_s": 17}}
FAILED = {"errors": 1, "calls": [{**CHAT, "outcome": "error", "reason": "HTTP 429 rate limit"}, *USUAL["calls"]]}
TOLD = {
    "troubles": ["L2: … refused the connection: answers come from this machine alone"],
    "hints": ["2 calls asked what another had asked and shared its answer; --samples distinct keeps them apart"],
}
MANY_CALLS = [{**call, "entry": f"{n:016x}", "input_tokens": 900 + n} for n in range(125) for call in USUAL["calls"]]
MANY = {"hits": 250, "misses": 250, "not_stored": 125, "refused": 125, "calls": MANY_CALLS}
STATES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "closed": (USUAL, ()),
    "open": (USUAL, ("toggle", "explain-2")),
    "asking": (USUAL, ("invalidate",)),
    "running": ({**USUAL, **RUNNING}, ()),
    "failed": ({**USUAL, **FAILED}, ("toggle",)),
    "told": ({**USUAL, **TOLD}, ()),
    "many": ({**USUAL, **MANY}, ("toggle", "next")),
    "empty": ({**USUAL, **NOTHING}, ()),
    "newer": ({"version": 9, "headline": "✓ spent $0.0012, saved $0.0075"}, ()),
    "lacking": ({"version": 3, "hits": 2}, ()),
}
"""State -> report, and what is pressed."""


def main() -> int:
    """Write a picture of each state in light and dark, and in 320 pixels."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        sys.stderr.write("pictures: no Chromium on PATH; install the package `chromium`\n")
        return 2
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        for scheme in ("light", "dark"):
            context = chromium.new_context(
                viewport={"width": 900, "height": 100}, color_scheme=scheme, device_scale_factor=2
            )
            for state in STATES:
                shoot(context.new_page(), state, ALL / f"view-{state}-{scheme}.png")
        narrow = chromium.new_context(
            viewport={"width": 320, "height": 100}, color_scheme="light", device_scale_factor=2
        )
        for state in STATES:
            shoot(narrow.new_page(), state, ALL / f"view-{state}-narrow.png")
        chromium.close()
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name in SHOWN:
        shutil.copyfile(ALL / name, IMAGES / name)
    return 0


def shoot(page: Page, state: str, target: Path) -> None:
    """Save a picture of `state`."""
    report, pressed = STATES[state]
    page.route("**/*", _serve)
    page.goto(PLACE)
    page.wait_for_function("() => window.show !== undefined")
    page.evaluate("report => show(report, true)", report)
    for does in pressed:
        page.locator(f"[data-does={does}]").click()
    if "invalidate" in pressed:
        page.locator("[data-does=yes]").wait_for()
    if "explain-2" in pressed:
        page.locator(".gcm-explained").wait_for()
    page.mouse.move(0, 0)
    page.screenshot(path=target, full_page=True)
    page.close()


def _serve(route: Route) -> None:
    name = route.request.url.removeprefix(PLACE)
    if name == "cell_status.js":
        route.fulfill(path=STATIC / name, content_type="text/javascript")
    else:
        route.fulfill(body=PAGE if not name else "", content_type="text/html")


if __name__ == "__main__":
    sys.exit(main())
