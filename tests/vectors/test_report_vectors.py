"""Every vector of spec/vectors/report.json has its outcome, by the schema; `tests/browser` draws them."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

SPEC = Path(__file__).parents[2] / "spec"
VECTORS = json.loads((SPEC / "vectors" / "report.json").read_text(encoding="utf-8"))
SCHEMA = json.loads((SPEC / "report.schema.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("vector", VECTORS["reports"], ids=lambda v: v["name"])
def test_reports(vector):
    """The schema takes a report of this version and no other."""
    assert vector["outcome"] in VECTORS["outcomes"]
    assert jsonschema.Draft202012Validator(SCHEMA).is_valid(vector["report"]) is (vector["outcome"] == "drawn")


def test_the_schema_is_one():
    """It is a JSON Schema."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert {vector["outcome"] for vector in VECTORS["reports"]} == set(VECTORS["outcomes"])
