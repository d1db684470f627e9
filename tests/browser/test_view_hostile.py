"""The view of a hostile report: whatever it holds is shown as text."""

from __future__ import annotations

import json

import pytest
from reports import USUAL

pytestmark = pytest.mark.service


ACTS = ["executed++", "window.executed=1", "alert(1)", "parent.executed++"]
CARRIERS = [
    "<script>{}</script>",
    "<img src=x onerror={}>",
    "<img src=x onerror='{}'>",
    '"><img src=x onerror={}>',
    "'><svg onload={}>",
    "<svg><script>{}</script></svg>",
    "<svg/onload={}>",
    "<body onload={}>",
    "<iframe srcdoc='<script>{}</script>'></iframe>",
    "<iframe src=javascript:{}></iframe>",
    "<a href=javascript:{} autofocus onfocus={}>x</a>",
    "<details open ontoggle={}>",
    "<input autofocus onfocus={}>",
    "<style onload={}></style>",
    "</style><script>{}</script>",
    "</td></tr></table><script>{}</script>",
    "<math><mtext></mtext><script>{}</script></math>",
    "<video><source onerror={}></video>",
    "<object data=javascript:{}></object>",
    "<marquee onstart={}>x</marquee>",
    "javascript:{}",
    "{{{{constructor.constructor('{}')()}}}}",
    "${{{}}}",
    "` + {} + `",
    "'); {}; ('",
    "__proto__ {}",
    "<!--<img src=x onerror={}>-->",
    "<base href=javascript:{}//>",
    "<template><script>{}</script></template>",
    "\\u003cscript\\u003e{}\\u003c/script\\u003e",
]
PAYLOADS = [carrier.replace("{}", act, 9).replace("{{", "{").replace("}}", "}") for carrier in CARRIERS for act in ACTS]
OURS = "section style div p ul li span button table thead tbody tr th td input select option label progress"


def hostile(payload):
    """A report in which every text is `payload`, whatever it should be."""
    call = dict.fromkeys(("outcome", "tier", "provider", "model", "reason", "state"), payload)
    numbers = dict.fromkeys(
        ("input_tokens", "output_tokens", "cached_input_tokens", "spent_usd", "saved_usd", "sample"), payload
    )
    return {
        "version": 3,
        "headline": payload,
        "mode": payload,
        "run": payload,
        "tags": [payload],
        "hits": 1,
        "misses": 1,
        "errors": 1,
        "unrecognised": {payload: 1},
        "totals": dict.fromkeys(
            ("input_tokens", "output_tokens", "spent_usd", "saved_usd", "spent_at_least_usd"), payload
        ),
        "calls": [
            {**call, **numbers, "entry": "00112233445566aa"},
            {**call, "outcome": "miss", "entry": payload, "tags": [payload]},
        ],
        "progress": {"done": payload, "in_flight": payload, "spent_usd": payload, "eta_s": payload},
        "troubles": [payload],
        "hints": [payload],
        "store": payload,
    }


def test_what_a_report_holds_is_never_executed(shown):
    """100 payloads and more, in every text of a report, of what is fetched and of what a host answers: none runs."""
    assert len(set(PAYLOADS)) >= 100
    run = """async (payloads) => {
      const wrong = [];
      const settled = async () => { for (let turns = 0; turns < 20; turns++) await null; };
      for (const [payload, report, packed] of payloads) {
        const told = {reason: payload, differs: [payload], diff: [payload], sentence: payload};
        Object.assign(window.answers, {explain: told, rerun: told, invalidate: payload});
        const facts = {state: payload, tier: payload};
        window.host.fetchLive = async () => ({entries: {"00112233445566aa": facts}, notes: [payload]});
        for (const one of [report, packed, {version: 99, headline: payload}, {version: payload, headline: payload}]) {
          show(one);
          document.querySelector("[data-does=toggle]")?.click();
          await settled();
          for (const does of ["explain-1", "rerun", "invalidate"]) {
            document.querySelector(`[data-does="${does}"]`)?.click();
            await settled();
          }
          const names = [...document.querySelectorAll("#place *")].map((one) => one.localName);
          wrong.push(...names.filter((name) => !OURS.split(" ").includes(name)));
        }
        if (!document.querySelector("#place").textContent.includes(payload)) wrong.push(`not shown: ${payload}`);
      }
      await new Promise((done) => setTimeout(done, 100)); // for what would come from a fetch that failed
      return [window.executed, wrong];
    }""".replace("OURS", json.dumps(OURS))
    packed = [
        {
            **USUAL,
            "kinds": [
                {
                    "outcome": "miss",
                    "model": p,
                    "provider": p,
                    "reason": p,
                    "tier": p,
                    "calls": [p, f"00112233445566aa {p}"],
                }
            ],
        }
        for p in PAYLOADS
    ]
    executed, wrong = shown.page.evaluate(run, [[p, hostile(p), one] for p, one in zip(PAYLOADS, packed, strict=True)])
    assert (executed, wrong) == (0, [])
