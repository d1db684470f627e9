"""The settings of monitoring: the seed's form, from every source, and what is said of what is wrong."""

from __future__ import annotations

import pytest

from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.settings.monitoring import ALERTS, METRICS, AlertRule, MonitoringSettings, listening
from genai_cache_magic.settings.reading import describe, load_settings
from genai_cache_magic.settings.trust import decides_trust

SEED = {
    "metrics": ["hits", "misses", "latency"],
    "alerts": [{"name": "HighMissRate", "threshold": 0.3, "window": "5m"}],
}


@pytest.fixture(autouse=True)
def _own(isolated):
    """No settings of the user's."""


def test_the_seeds_form_is_understood():
    """`metrics` and `alerts` with `name`, `threshold`, `window`, as the seed writes them."""
    found = load_settings(monitoring=SEED).monitoring
    assert found.metrics == ("hits", "misses", "latency")
    assert found.alerts == (AlertRule(name="HighMissRate", threshold=0.3, window=300),)
    assert found.exporter == "none"
    assert found.is_on


def test_nothing_is_on_by_default():
    """Without a word nothing is counted for others, and no alert is watched for."""
    assert load_settings().monitoring == MonitoringSettings()
    assert not MonitoringSettings().is_on


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("GENAI_CACHE_MONITORING__ALERTS", "HighMissRate, L2Offline"),
        ("GENAI_CACHE_MONITORING__ALERTS", '["HighMissRate", {"name": "L2Offline"}]'),
        ("GENAI_CACHE_MONITORING", '{"alerts": ["HighMissRate", "L2Offline"]}'),
    ],
)
def test_alerts_of_the_environment(monkeypatch, variable, value):
    """As names, as JSON, or with the whole table: a name alone has the threshold and window of its kind."""
    monkeypatch.setenv(variable, value)
    rules = load_settings().monitoring.alerts
    assert [(rule.name, rule.threshold, rule.window) for rule in rules] == [
        ("HighMissRate", 0.3, 300),
        ("L2Offline", 0.5, 60),
    ]


@pytest.mark.parametrize("name", ALERTS)
def test_every_kind_stands_by_its_name(name):
    """Each kind of alert has a threshold and a window that it may have."""
    assert load_settings(monitoring={"alerts": [name]}).monitoring.alerts[0].name == name


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"alerts": ["HighMissRat"]}, "did you mean HighMissRate?"),
        ({"alerts": ["x"]}, "write one of HighMissRate"),
        ({"alerts": [{"name": "HighMissRate", "threshold": 30}]}, "below 1"),
        ({"alerts": [{"name": "HighMissRate", "threshold": -1}]}, "at least 0"),
        ({"alerts": [{"name": "HighCost", "threshold": float("inf")}]}, "threshold"),
        ({"alerts": [{"name": "HighMissRate", "treshold": 0.1}]}, "did you mean threshold?"),
        ({"alerts": [{"name": "HighMissRate", "window": "5"}]}, "has no unit"),
        ({"alerts": [{"name": "HighMissRate", "window": "2d"}]}, "between 10s and 24h"),
        ({"alerts": [{"threshold": 0.3}]}, "there is no default"),
        ({"alerts": "[{"}, "no JSON"),
        ({"alerts": 5}, "a list"),
        ({"metrics": ["hits", "miss"]}, "did you mean misses?"),
        ({"exporter": "promethus"}, "did you mean prometheus?"),
        ({"exprter": "otlp"}, "did you mean exporter?"),
        ({"listen": "9464"}, "127.0.0.1:9464"),
        ({"listen": "127.0.0.1:9-8"}, "127.0.0.1:9464"),
        ({"listen": "127.0.0.1:99999"}, "127.0.0.1:9464"),
        ({"interval": "60"}, "has no unit"),
        ({"webhook": "http://example.com/SECRET"}, "https://"),
        ({"endpoint": "https://u:SECRET@collector"}, "collector"),
    ],
)
def test_what_is_wrong_is_named_with_the_fix(given, said):
    """Each error names its setting and what to write, and shows no address that may be a secret."""
    with pytest.raises(ConfigurationError) as raised:
        load_settings(monitoring=given)
    assert "monitoring." in str(raised.value)
    assert said in str(raised.value)
    assert "SECRET" not in str(raised.value)


def test_secrets_are_shown_nowhere():
    """The webhook's address and the connection string are in no text of the settings."""
    settings = load_settings(
        monitoring={"webhook": "https://h.example.com/SECRET", "connection_string": "InstrumentationKey=SECRET"}
    )
    line = next(line for line in describe(settings).lines if line.name == "monitoring")
    assert line.value == "a webhook is told"
    assert "SECRET" not in f"{settings!r}{settings.monitoring.in_words()}{describe(settings)}"


def test_a_project_does_not_decide_who_is_told(isolated, tmp_path):
    """The file of a project that nobody trusted sends no numbers anywhere."""
    assert decides_trust("monitoring")
    (isolated / "home" / "genai-cache.toml").write_text(
        '[monitoring]\nexporter = "otlp"\nendpoint = "https://x.example"\n'
    )
    assert not load_settings().monitoring.is_on


def test_every_metric_can_be_chosen():
    """Each name that can be counted is accepted, alone and in one text with commas."""
    assert load_settings(monitoring={"metrics": ",".join(METRICS)}).monitoring.metrics == METRICS
    assert all(load_settings(monitoring={"metrics": [name]}).monitoring.metrics == (name,) for name in METRICS)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("127.0.0.1:9464", ("127.0.0.1", range(9464, 9465))),
        ("[::1]:9464-9466", ("::1", range(9464, 9467))),
        ("127.0.0.1:0", ("127.0.0.1", range(1))),
    ],
)
def test_where_a_prometheus_may_read(text, found):
    """An address with one port, or with the first and the last of some."""
    assert load_settings(monitoring={"listen": text}).monitoring.listen == text
    assert listening(text) == found
