"""Which files are a project's at all: none of other owners, none above the repository or the home."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from commands import ran
from projects import (
    cloned_project,  # noqa: F401 - fixtures
    write,
)

from genai_cache_magic.settings.files import project_files
from genai_cache_magic.settings.reading import describe, ignored, load_settings

# --- files that are nobody's word


def as_another_users(monkeypatch, path: Path) -> None:
    """Let `path` belong to somebody else, whoever runs the tests."""
    own = os.fstat, os.stat

    def foreign(status):
        fields = list(status)
        fields[stat.ST_UID] = 4321
        return os.stat_result(fields)

    def fstat(descriptor):
        found = own[0](descriptor)
        return foreign(found) if os.path.samestat(found, own[1](path)) else found

    monkeypatch.setattr(os, "fstat", fstat)


@pytest.mark.parametrize("users", [False, True], ids=["project", "user"])
@pytest.mark.parametrize(
    ("danger", "said"),
    [("owner", "another user"), ("group", "chmod go-w"), ("world", "chmod go-w"), ("folder", "others may replace it")],
)
def test_a_file_that_others_could_have_written_is_ignored(project, monkeypatch, danger, said, users):
    """Whoever owns it, or may write or replace it, would decide: not even parsed, and one sentence says so."""
    own = Path.home() / ".config" / "genai-cache" / "config.toml"
    file = write(own if users else project / "genai-cache.toml", 'ttl = "2h"\n')
    assert load_settings().ttl == 7200
    file.write_text('ttl = "2h"\n=')
    if danger == "owner":
        as_another_users(monkeypatch, file)
    elif danger == "folder":
        file.parent.chmod(0o777)
    else:
        file.chmod(0o664 if danger == "group" else 0o646)
    assert load_settings().ttl == 30 * 86_400
    (sentence,) = ignored()
    assert f"~/{file.relative_to(Path.home())} is not read" in sentence
    assert said in sentence
    assert "genai-cache trust" in sentence


def test_a_folder_with_a_sticky_bit_is_safe(project):
    """In /tmp and its like nobody can replace another's file."""
    write(project / "genai-cache.toml", 'ttl = "2h"\n')
    project.chmod(0o1777)
    assert load_settings().ttl == 7200


def test_a_file_of_others_can_be_trusted_as_it_is(project, capsys, monkeypatch):
    """What it says now is known, so that it doesn't matter who may change it: a change is not obeyed."""
    file = write(project / "genai-cache.toml", 'encryption = "off"\n')
    as_another_users(monkeypatch, file)
    assert load_settings().encryption == "local"
    assert ran(capsys, "trust")[0] == 0
    assert load_settings().encryption == "off"
    file.write_text('encryption = "off"\nmode = "off"\n')
    assert (load_settings().encryption, load_settings().mode.value) == ("local", "use")


def test_a_pyproject_of_others_that_says_nothing_to_us_is_no_matter(project, monkeypatch):
    """Nothing of ours is in it, so there is nothing to say."""
    file = write(project / "pyproject.toml", "[project]\n")
    as_another_users(monkeypatch, file)
    assert ignored() == ()


def test_where_files_have_no_owners_none_is_refused(project, monkeypatch):
    """Windows says neither who owns a file nor who may write it; `config` says that it is unchecked."""
    file = write(project / "genai-cache.toml", 'ttl = "2h"\n')
    file.chmod(0o666)
    monkeypatch.delattr(os, "geteuid")
    assert load_settings().ttl == 7200
    assert any("not checked" in note for note in describe(load_settings()).notes)


# --- how far the search goes


def test_the_search_ends_at_the_root_of_the_repository(project):
    """What lies above a repository was put there for something else; `.git` may be a file, as in a worktree."""
    write(project.parent / "genai-cache.toml", 'ttl = "2h"\n')
    assert load_settings().ttl == 30 * 86_400
    (project / ".git").rmdir()
    write(project / ".git", "gitdir: elsewhere\n")
    assert load_settings().ttl == 30 * 86_400
    write(project / "genai-cache.toml", 'ttl = "3h"\n')
    assert load_settings().ttl == 10_800
    (project / ".git").unlink()
    (project / "genai-cache.toml").unlink()
    assert load_settings().ttl == 7200


def test_the_search_ends_at_home(project):
    """Whoever can write above the homes is not heard in them."""
    (project / ".git").rmdir()
    write(Path.home().parent / "genai-cache.toml", 'ttl = "2h"\n')
    assert load_settings().ttl == 30 * 86_400
    write(Path.home() / "genai-cache.toml", 'ttl = "3h"\n')
    assert load_settings().ttl == 10_800


def test_a_working_directory_that_is_gone_has_no_files(project, tmp_path):
    """It is no reason to fail."""
    gone = tmp_path / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    assert project_files() == []
    assert load_settings().ttl == 30 * 86_400
