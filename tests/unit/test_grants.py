"""What gives somebody a role is printed exactly, quoted, and never run; what can be no name is refused."""

from __future__ import annotations

import json
import shlex
import subprocess

import pytest

from genai_cache_magic.cli.main import main
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.ops.grants import checked_principal, checked_role, checked_scope, firewall, grant
from genai_cache_magic.ops.roles import BLOB_ROLES, REDIS_RULES, VAULT_ROLES, redis_keys
from genai_cache_magic.settings.roles import ROLES

GROUP = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/team"
STORAGE = f"{GROUP}/providers/Microsoft.Storage/storageAccounts/shared"
CONTAINER = f"{STORAGE}/blobServices/default/containers/llm-cache"
VAULT = f"{GROUP}/providers/Microsoft.KeyVault/vaults/team-vault"
REDIS = f"{GROUP}/providers/Microsoft.Cache/redis/team-redis"
MANAGED = f"{GROUP}/providers/Microsoft.Cache/redisEnterprise/team-redis"
WHO = "11111111-2222-3333-4444-555555555555"


def lines(role, scope, who=WHO, namespace=None):
    return grant(role, checked_principal(who), checked_scope(scope), namespace)


def commands(found):
    return [shlex.split(line.text) for line in found if line.kind == "az"]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("scope", [STORAGE, CONTAINER, GROUP, VAULT])
def test_a_role_is_that_of_azure_at_that_scope(role, scope):
    """The storage role at storage, those of the keys at a vault, both for a group, and nothing beside them."""
    wanted = [BLOB_ROLES[role]] if scope != VAULT else []
    wanted += VAULT_ROLES[role] if scope in {VAULT, GROUP} else []
    found = commands(lines(role, scope))
    assert found == [
        ["az", "role", "assignment", "create", "--role", name, "--assignee", WHO, "--scope", scope] for name in wanted
    ]


@pytest.mark.parametrize("role", ROLES)
def test_a_redis_gets_the_rights_that_are_documented(role):
    """As a policy of Azure's, and as a rule of a server of one's own; for one namespace if asked."""
    (policy, assignment) = commands(lines(role, REDIS, namespace="team-a"))
    permissions = policy[policy.index("--permissions") + 1].split()
    assert permissions[: len(REDIS_RULES[role]) + 1] == [*REDIS_RULES[role], "~genai-cache:1:team-a:*"]
    assert assignment[assignment.index("--object-id") + 1] == WHO
    (rule,) = [line.text for line in lines(role, REDIS) if line.kind == "redis"]
    assert rule == f"ACL SETUSER {WHO} reset on >PASSWORD ~genai-cache:1:* {' '.join(REDIS_RULES[role])}"


@pytest.mark.parametrize("role", ["Cache.Reader", "Cache.Writer"])
def test_a_managed_redis_gets_no_more_than_the_role(role):
    """Its command can give everything alone, so for less than an admin the access string is printed."""
    found = lines(role, MANAGED)
    assert commands(found) == []
    assert " ".join(REDIS_RULES[role]) in next(line.text for line in found if line.kind == "redis")


def test_nothing_but_words_reaches_a_shell():
    """A name with a quote in it arrives as it is, and runs nothing."""
    name = "o'brien_example.com#EXT#@tenant.onmicrosoft.com"
    (line,) = lines("Cache.Reader", STORAGE, name)
    said = subprocess.run(["/bin/sh", "-c", f"printf '%s\\n' {line.text}"], capture_output=True, text=True, check=True)
    assert said.stdout.splitlines()[7] == name


@pytest.mark.parametrize(
    "who",
    [
        "",
        "a b",
        "a;rm -rf ~",
        "$(id)",
        "`id`",
        "a|b",
        "a&b",
        "a>b",
        "--all",
        "-x",
        "a\nb",
        'a"b',
        "ä",
        "a\\b",
        "a*",
        "x" * 200,
    ],
)
def test_what_is_nobodys_name_is_refused(who):
    """With what to write instead."""
    with pytest.raises(ConfigurationError, match="is nobody's name: write an object id"):
        checked_principal(who)


@pytest.mark.parametrize("name", ["Reader", "cache.reader", "Cache.reader", "Cache.Owner", "", "Cache.Reader "])
def test_a_role_that_is_none_is_refused(name):
    """With all that there are, and what may have been meant."""
    with pytest.raises(ConfigurationError, match=r"is no role: write Cache\.Reader, Cache\.Writer, Cache\.Admin"):
        checked_role(name)


def test_what_may_have_been_meant_is_said():
    """Be it written small, or without its beginning."""
    for name in ("reader", "cache.reader", "Cache.Readr"):
        with pytest.raises(ConfigurationError, match=r"did you mean Cache\.Reader\?"):
            checked_role(name)


@pytest.mark.parametrize(
    "scope",
    [
        *("", "/", "team", "/subscriptions", "/subscriptions/not-an-id", f"{GROUP}/providers", f"{GROUP};id"),
        *(f"{GROUP}/providers/Microsoft.Storage/storageAccounts/$(id)", "/resourceGroups/team", f"{GROUP} "),
        *(
            f"{GROUP}/providers/Microsoft.Compute/virtualMachines/one",
            f"{GROUP}/providers/Microsoft.Storage",
            "https://x",
        ),
    ],
)
def test_what_is_no_scope_is_refused(scope):
    """With what one looks like."""
    with pytest.raises(ConfigurationError, match=r"--scope .*: write /subscriptions/ID/resourceGroups/GROUP"):
        checked_scope(scope)


def test_firewall_rules_are_those_that_azure_takes():
    """No prefix of 31 or 32, no private range for storage and vaults, and no IPv6: what can't be a rule is said."""
    found = firewall(("203.0.113.7/32", "203.0.113.4/31", "10.0.0.0/24", "fd00::/8"), checked_scope(STORAGE))
    assert [command[command.index("--ip-address") + 1] for command in commands(found)] == [
        *("203.0.113.7", "203.0.113.4", "203.0.113.5")
    ]
    assert [line.text.split()[0] for line in found if line.kind == "note"] == ["10.0.0.0/24", "fd00::/8:"]
    (rule, private) = commands(firewall(("203.0.113.0/24", "10.0.0.0/24"), checked_scope(REDIS)))
    assert rule[-4:] == ["--start-ip", "203.0.113.0", "--end-ip", "203.0.113.255"]
    assert private[-4:] == ["--start-ip", "10.0.0.0", "--end-ip", "10.0.0.255"]


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(["access", *arguments])
    return ended.value.code


def test_the_command_prints_and_runs_nothing(isolated, capsys, monkeypatch):
    """For people, and for scripts; notes are comments, so that all of it can be pasted."""
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("something is run"))
    asked = ("grant", "--role", "Cache.Reader", "--principal", WHO, "--scope", GROUP, "--print")
    assert run(*asked) == 0
    shown = capsys.readouterr().out.splitlines()
    assert all(line.startswith(("az ", "ACL ", "# ")) for line in shown)
    assert run(*asked, "--json") == 0
    told = json.loads(capsys.readouterr().out)["lines"]
    assert [line["text"] for line in told] == [line.removeprefix("# ") for line in shown]


def test_without_print_it_says_that_it_only_prints(isolated, capsys):
    """And what is wrong of the rest is said first."""
    assert run("grant", "--role", "Cache.Reader", "--principal", WHO, "--scope", GROUP) == 2
    assert "add --print" in capsys.readouterr().err
    assert run("grant", "--role", "Reader", "--principal", WHO, "--scope", GROUP) == 2
    assert "is no role" in capsys.readouterr().err


def test_there_is_nothing_to_try_without_a_team(isolated, capsys, monkeypatch):
    """Neither to look up: both say which settings are meant."""
    monkeypatch.setenv("GENAI_CACHE_L2", "none")
    for command in ("check", "network"):
        assert run(command) == 2
        assert "name the team's tier as l2" in capsys.readouterr().err
    assert run("check", "--role", "Writer") == 2
    assert "did you mean Cache.Writer?" in capsys.readouterr().err


@pytest.mark.parametrize(
    "address",
    [
        *("redis://127.0.0.1:6379", "rediss://default:hunter2@cache.example.com:6380/0", "REDIS://host"),
        *("redis+cluster://a:1,b:2", "rediss+cluster://host:10000"),
    ],
)
def test_a_redis_of_ones_own_is_named_by_its_address(address):
    """Its rules alone are printed, and nothing of the address, which may hold a password."""
    found = grant("Cache.Reader", "ana", checked_scope(address), "team-a")
    assert [line.kind for line in found] == ["note", "redis"]
    rules = " ".join((redis_keys("team-a"), *REDIS_RULES["Cache.Reader"]))
    assert found[1].text == f"ACL SETUSER ana reset on >PASSWORD {rules}"
    assert "hunter2" not in repr((found, checked_scope(address)))
    assert [line for line in firewall(("203.0.113.7/32",), checked_scope(address)) if line.kind == "az"] == []


@pytest.mark.parametrize(
    "address",
    [
        *("rediss://:hunter2@cache.redis.cache.windows.net:6380", "rediss://cache.westeurope.redis.azure.net:10000"),
        "rediss+cluster://cache.redisenterprise.cache.azure.net",
    ],
)
def test_a_redis_of_azures_is_named_by_its_id(address):
    """Its users are made by policies: rules of `redis-cli` would be refused there."""
    with pytest.raises(ConfigurationError) as refused:
        checked_scope(address)
    assert "give its id" in str(refused.value)
    assert "hunter2" not in str(refused.value)
