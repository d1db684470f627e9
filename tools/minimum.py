"""Print, as pip's constraints, the lowest release that pyproject.toml allows of each thing that we run on.

What the tests themselves stand on (SDKs, pytest) is left to their own pins: it is our lower bounds that are tried.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

EXTRAS = ("redis", "azure", "keyring", "vector")
"""The extras whose packages the product itself imports, and that its tests can run without a browser."""


def minima(pyproject: Path) -> list[str]:
    """Return ``name==lowest`` for each requirement, sorted."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    requirements = list(project["dependencies"])
    for extra in EXTRAS:
        requirements += project["optional-dependencies"][extra]
    return sorted(lowest(requirement) for requirement in requirements)


def lowest(requirement: str) -> str:
    """Return ``name==version`` for a requirement with a lower bound or an exact version."""
    found = re.match(r"(?P<name>[\w.-]+)(?:\[[^]]*])?(?:>=|==)(?P<version>[\w.]+)", requirement.replace(" ", ""))
    if found is None:
        raise SystemExit(f"pyproject.toml: {requirement!r} states no lower bound: write name>=version")
    return f"{found['name']}=={found['version']}"


if __name__ == "__main__":
    sys.stdout.write("\n".join(minima(Path(__file__).parent.parent / "pyproject.toml")) + "\n")
