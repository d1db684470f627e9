"""A namespace with answers, other machines that share its key, and backups of it, for the tests of both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from genai_cache_magic import create_cache
from genai_cache_magic.ops.backup import back_up
from genai_cache_magic.ops.restore import restore
from genai_cache_magic.settings.reading import load_settings
from genai_cache_magic.stores.records import RecordFile

if TYPE_CHECKING:
    from pathlib import Path

    from genai_cache_magic.api.cache import Cache
    from genai_cache_magic.ops.backup import BackedUp
    from genai_cache_magic.ops.restore import Restored
    from genai_cache_magic.settings.model import Settings
    from genai_cache_magic.stores.records import Records


import pytest

NAMESPACE = "lab"


class Machine:
    """One machine: a directory, and the settings that lead there."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.directory = directory
        self._settings = {"dir": str(directory), **settings}

    @property
    def settings(self) -> Settings:
        """What it is configured with."""
        return load_settings(**self._settings)

    def cache(self, namespace: str = NAMESPACE) -> Cache:
        """Open its cache."""
        return create_cache(namespace=namespace, **self._settings)

    def store(self, *keys: str, namespace: str = NAMESPACE, **how: Any) -> None:
        """Store a value for each of `keys`, which says so."""
        with self.cache(namespace) as cache:
            for key in keys:
                cache.set(key, f"the value of {key}", **how)
            if cache.team is not None:
                assert cache.team.tell(within_s=60), "the team has not heard of all"

    def found(self, *keys: str, namespace: str = NAMESPACE) -> list[Any]:
        """Return what is served for each of `keys`."""
        with self.cache(namespace) as cache:
            return [cache.get(key) for key in keys]

    def backs_up(self, place: Path | Records, namespace: str = NAMESPACE) -> BackedUp:
        """Back up a namespace of it."""
        return back_up(self.settings, namespace, _records(place))

    def restores(self, place: Path | Records, namespace: str = NAMESPACE, **how: Any) -> Restored:
        """Restore into a namespace of it."""
        return restore(self.settings, namespace, _records(place), **how)


def _records(place: Path | Records) -> Records:
    return RecordFile(place) if hasattr(place, "read_bytes") else place  # type: ignore[return-value, arg-type]


def values(*keys: str) -> list[str]:
    """Return what `Machine.store` stores for `keys`."""
    return [f"the value of {key}" for key in keys]


@pytest.fixture(name="here")
def machine_here(isolated):
    """A machine on which three values are stored, two of them with a tag."""
    machine = Machine(isolated / "here")
    machine.store("a", "b", tags=["t"])
    machine.store("c")
    return machine


@pytest.fixture(name="there")
def another_machine(isolated):
    """A machine on which nothing is stored."""
    return Machine(isolated / "there")


@pytest.fixture(name="file")
def backup_file(isolated):
    """Where a backup goes."""
    return isolated / "lab.backup"
