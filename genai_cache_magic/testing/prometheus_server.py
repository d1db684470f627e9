"""A real Prometheus for tests, which reads some addresses once a second and is asked in its own language."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from genai_cache_magic.testing.servers import Server, find_program, free_port

if TYPE_CHECKING:
    from collections.abc import Sequence

_TIMEOUT_S = 30.0


class PrometheusServer(Server):
    """A Prometheus on loopback that keeps what it read in a directory of its own.

    Parameters
    ----------
    targets
        The pages that it reads, such as ``http://127.0.0.1:9464/metrics``.
    """

    def __init__(self, targets: Sequence[str]) -> None:
        self._targets = [urlsplit(target).netloc for target in targets]
        super().__init__(free_port())

    def command(self) -> list[str]:
        """Return the program and its arguments, after its configuration is written."""
        program = find_program("prometheus")
        directory = Path(self._directory.name)
        jobs = [{"job_name": "genai-cache", "static_configs": [{"targets": self._targets}]}]
        # Each JSON document is one of YAML.
        often = {"scrape_interval": "1s", "scrape_timeout": "1s"}
        configuration = directory / "prometheus.yml"
        configuration.write_text(json.dumps({"global": often, "scrape_configs": jobs}), encoding="utf-8")
        return [
            program,
            f"--config.file={configuration}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return what an expression comes to now: series with ``metric`` and ``value``; an error of it is raised."""
        query = urllib.parse.urlencode({"query": expression})
        address = f"http://127.0.0.1:{self.port}/api/v1/query?{query}"
        with urllib.request.urlopen(address, timeout=_TIMEOUT_S) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return found
