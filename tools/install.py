"""Install what pip is asked for into the environment of the Python that runs this: ``python tools/install.py ARG ...``.

By the uv that the variable ``UV`` names: it fetches and unpacks a package once for all environments, which pip does for
each. What pip is told of indexes, certificates and the like, by files or variables, holds for uv too; what has no equal
there leaves the work to pip, and so does a uv that is absent or fails. The arguments are of those that both know.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Setting of pip -> option of uv; each word of a setting is one.
OPTIONS = {
    "constraint": "--constraint",
    "no-binary": "--no-binary",
    "only-binary": "--only-binary",
    "trusted-host": "--allow-insecure-host",
}
# Setting of pip -> variable of uv, and what stands between several words. SECURITY: an address may have a password in
# it, and everybody on this machine can read the arguments of a process.
VARIABLES = {
    "cert": ("SSL_CERT_FILE", " "),
    "default-timeout": ("UV_HTTP_TIMEOUT", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "timeout": ("UV_HTTP_TIMEOUT", " "),
}
# Variables of uv that say where it keeps things and how it speaks. The others, and its files, could say what is
# installed, of which pip knows nothing.
OF_UV_ALONE = frozenset(
    {"UV_CACHE_DIR", "UV_CONCURRENT_DOWNLOADS", "UV_HTTP_TIMEOUT", "UV_LINK_MODE", "UV_SYSTEM_CERTS"}
)
# What changes how pip speaks or keeps things, not what it installs.
OF_PIP_ALONE = frozenset(
    {
        "cache-dir",
        "config-file",
        "disable-pip-version-check",
        "no-cache-dir",
        "no-compile",
        "no-input",
        "no-python-version-warning",
        "no-warn-script-location",
        "progress-bar",
        "quiet",
        "root-user-action",
    }
)


@dataclass(frozen=True)
class Told:
    """What uv is told instead of what pip was."""

    options: tuple[str, ...]
    variables: dict[str, str]


def settings(listed: str) -> dict[str, str]:
    """Return each setting of ``pip config list`` by its name: of commands, only what holds for installing."""
    found: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        section, _, setting = name.partition(".")
        # What is set to nothing is not set, for pip.
        if section in found and (said := str(ast.literal_eval(value))):
            found[section][setting] = said
    return {**found["global"], **found["install"], **found[":env:"]}  # the last of them wins, as with pip


def for_uv(said: Mapping[str, str]) -> Told | None:
    """Return what uv is told where pip is told `said`, or None if something of it has no equal there."""
    options: list[str] = []
    # Of all indexes the best release, as pip chooses.
    variables = {"UV_INDEX_STRATEGY": "unsafe-best-match"} if "extra-index-url" in said else {}
    for setting, value in said.items():
        if setting in OPTIONS:
            options += [part for word in value.replace(",", " ").split() for part in (OPTIONS[setting], word)]
        elif setting in VARIABLES:
            name, between = VARIABLES[setting]
            words = _there(value) if setting == "find-links" else value.split()
            if any(between in word for word in words):
                return None
            if words:
                variables[name] = between.join(words)
        elif setting not in OF_PIP_ALONE:
            return None
    return Told(tuple(options), variables)


def _there(links: str) -> list[str]:
    """Return what of `links` is there: a directory that is not is a warning of pip's, and an error of uv's."""
    words = [word if "://" in word else str(Path(word).expanduser()) for word in links.split()]
    return [word for word in words if "://" in word or Path(word).exists()]


def forget_unfinished(site: Path) -> None:
    """Remove from `site` what says that packages are there in whose middle an installer was stopped.

    uv writes a package's description among its files, in no order, and who installed it last of all. Without that
    either installer would take a half of a package for all of it.
    """
    for described in site.glob("*.dist-info"):
        if not (described / "INSTALLER").exists():
            shutil.rmtree(described)


def main(arguments: Sequence[str], environ: Mapping[str, str], site: Path) -> int:
    """Install into `site`, where packages lie, and return the exit code of what did."""
    pip = [sys.executable, "-m", "pip"]
    forget_unfinished(site)
    if uv := environ.get("UV"):
        listed = subprocess.run(
            [*pip, "config", "list"], check=False, capture_output=True, text=True, env=dict(environ)
        )
        told = None if listed.returncode else for_uv(settings(listed.stdout))
        if told is not None and _installs(uv, told, arguments, environ):
            return 0
        sys.stderr.write("tools/install.py: uv can't install these here; pip does\n")
        forget_unfinished(site)
    return subprocess.run([*pip, "install", *arguments], check=False, env=dict(environ)).returncode


def _installs(uv: str, told: Told, arguments: Sequence[str], environ: Mapping[str, str]) -> bool:
    command = [uv, "pip", "install", "--no-config", "--python", sys.executable, *told.options, *arguments]
    env = {name: value for name, value in environ.items() if not name.startswith("UV_") or name in OF_UV_ALONE}
    if authorities := environ.get("REQUESTS_CA_BUNDLE") or environ.get("CURL_CA_BUNDLE"):  # which pip reads, and uv not
        env["SSL_CERT_FILE"] = authorities
    try:
        return subprocess.run(command, check=False, env={**env, **told.variables}).returncode == 0
    except OSError as error:
        sys.stderr.write(f"tools/install.py: {uv}: {error}\n")
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ, Path(sysconfig.get_path("purelib"))))
