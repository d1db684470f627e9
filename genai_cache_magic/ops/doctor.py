"""What is well and what is not, in a line each: configuration, key, the cache on this machine, the team's tier.

A look changes nothing that would not be changed by the first cell, and makes no key: who is about to import the team's
must not find another in its place. Nothing is raised: what can't be looked at is a finding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from genai_cache_magic.core.options import Mode
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.intercept.stainless import client as stainless
from genai_cache_magic.ops.checks import CONFIGURATION, KEY, L1, L2, Severity
from genai_cache_magic.ops.doctor_key import of_key
from genai_cache_magic.ops.doctor_local import of_machine
from genai_cache_magic.ops.doctor_team import of_team
from genai_cache_magic.ops.findings import Finding, found_by
from genai_cache_magic.ops.surroundings import (
    missing_packages,
    others,
    outdated_packages,
    outdated_processes,
    untrusted_notebook,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genai_cache_magic.api.scopes.session import Session
    from genai_cache_magic.settings.model import Settings


def examine(session: Session, namespace: str | None = None) -> tuple[Finding, ...]:
    """Return what is found of the cache of `namespace`, None for the configured one."""
    try:
        settings = session.settings
        name = session.options(namespace=namespace).namespace
    except ConfigurationError as exc:
        unseen = "not looked at, since the configuration can't be read"
        return (
            found_by("settings-unread", str(exc)),
            *(found_by("part-unseen", unseen, part=part) for part in (KEY, L1, L2)),
        )
    key, about_key = of_key(settings)
    line, about_team = of_team(settings, name, key)
    return (*_configuration(session, settings), *about_key, *of_machine(settings, name, key, line), *about_team)


def troubles(session: Session) -> tuple[str, ...]:
    """Return what is wrong with the key and the team's tier, in sentences: what stands beside the settings.

    Raises
    ------
    ConfigurationError
        The settings can't be read.
    """
    key, about_key = of_key(session.settings)
    _, about_team = of_team(session.settings, session.options().namespace, key)
    return tuple(f"{f.part}: {f.says}" for f in (*about_key, *about_team) if f.severity is not Severity.OK)


def _configuration(session: Session, settings: Settings) -> Iterator[Finding]:
    for sentence in session.ignored:
        yield found_by("setting-ignored", sentence)
    for sentence in stainless.slower():
        yield found_by("sdk-slower", sentence)
    if settings.encryption == "off":
        says = "answers are stored as plain text, since encryption is off: set encryption to local"
        yield found_by("encryption-off", says, ("encryption",))
    yield from _surroundings(settings)
    if settings.mode is not Mode.USE:
        yield Finding(CONFIGURATION, Severity.OK, f"mode {settings.mode.value} is in force everywhere", ("mode",))
    given = [line for line in session.describe().lines if line.source != "default"]
    yield Finding(CONFIGURATION, Severity.OK, f"read; settings that are not at their defaults: {len(given)}")


def _surroundings(settings: Settings) -> Iterator[Finding]:
    """Say what of this process, and of the kernels beside it, keeps the cache from working as it should."""
    for method, package, is_answering in others():
        if is_answering:
            says = (
                f"{package} answers in {method}, so no real answer is seen or stored: take it away where one is wanted"
            )
            yield found_by("http-answered", says)
        else:
            yield Finding(CONFIGURATION, Severity.OK, f"{package} has taken hold of {method} too")
    for says, setting in missing_packages(settings):
        yield found_by("package-missing", says, (setting,))
    for name, there, wanted in outdated_packages():
        says = f"{name} {there} is installed, and genai-cache-magic needs {wanted}: run `pip install -U {name}`"
        yield found_by("package-outdated", says)
    for process in outdated_processes(settings.dir):
        says = f"process {process} uses this cache with code from before an update of it: restart that kernel"
        yield found_by("kernel-outdated", says)
    if notebook := untrusted_notebook():
        says = f"Jupyter does not trust {notebook}, so its status is drawn plain: run `jupyter trust` on it"
        yield found_by("notebook-untrusted", says)
