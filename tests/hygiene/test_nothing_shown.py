"""No object of ours shows a prompt, an answer, a header or a key when it is printed, logged or in a traceback."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import operator
import pkgutil
import re
import traceback

import pytest
from pydantic import BaseModel

import genai_cache_magic
from genai_cache_magic.core.model import KeySpace, Metadata, Request, Response
from genai_cache_magic.core.options import Options
from genai_cache_magic.providers.base import HttpCall

SECRET = "hunter2"

# What may be shown of an object. A field of another name is hidden, or comes to stand here after a thought: does
# it hold what a user or a model wrote, a header, a credential, a key, or what names this machine? Those with a class
# before them are public or made up there, and hidden anywhere else.
_SHOWN = """
    add algorithm alias api_version asked backoff badge because bill birth by by_model cache call calls catalogue
    cell cells circle command_timeout commitment compression confirm connect_timeout danger desk differs digest dir
    directory domain encryption entries entry_id error etag eviction_policy extensions extra_headers failure family
    fields fingerprint first_pause flight form from_files future gateway generations head header hints host ignored
    input_tokens is_unsuited items key_exclude key_file key_id key_include key_name key_vault_credential keys kind
    l2_ca_file l2_credential lead leader ledger line lines longest_pause matcher max_response max_stale maxmemory
    media memory message metadata method model models name namespace no_store notes offline_trust opened operation
    operations options origin original origins output_tokens owner path person provider published pulse read_body
    reason reasons refused remove replacement request request_id response retries retry role root rows rule run
    run_file runs
    saved scheme scope scope_tags scopes seal sealed signature signature_algorithm signed signing_key_id
    signing_key_name size_limit source spell spent stamp state status store suffix surface table tags task team
    terms text threshold tidy tier title total totals transform troubles ttl unclear units unrecognised uploads
    usage username value vendor version waiting wants where why withheld wrap write AccessToken.token Alike.record
    Differing.one Differing.other Differing.parts Division.parts
    Estimate.usd Finding.part Finding.says Finding.settings
    AlertKind.says AlertKind.unit AlertKind.window AlertRule.window MonitoringSettings.alerts
    MonitoringSettings.exporter MonitoringSettings.interval MonitoringSettings.listen MonitoringSettings.metrics
    Settings.monitoring TierState.circuit
    Check.fix Check.means Check.part Finding.check Found.rule Found.says Found.settings Rule.help Rule.id Seen.trouble
    LookUp.token Looked.trouble ManifestParts.bound ManifestParts.sealed_table Measure.kept_as Measure.metric
    Members.ids Parts.counts Parts.lists Parts.same
    References.digests Run.summary RunCall.content RunCall.outcome RunDiff.changed RunDiff.differing
    First.at_most First.slots
    RunDiff.only_one RunDiff.only_other Shipped.about Settings.budget Settings.budget_unknown Shipped.pattern
    Access.tried Line.text Place.addresses Place.own_address Place.says Scope.group Scope.path Scope.subscription
    TeamPart.here Tried.place Tried.right Tried.says _Awaited.member _Known.rates _Layout.salt _Signature.parameters
    _Signature.prefix _Signature.told_by _Signs.caches _Signs.costs _Signs.tiers Plot.label Plot.said Plot.svg
    Proposals.found Booked.period Seen.file Seen.written
"""
SHOWN = frozenset(_SHOWN.split())


# Types that hold none of that.
PLAIN = re.compile(
    r"\b(bool|int|float|Decimal|None|date|datetime|Path|Outcome|Tier|Mode|Samples|Form|End|Gone|Severity|State)\b|[| ]"
)


class Hidden(str):
    """A value that is not to be seen, and looks like an enumeration's member where one is expected."""

    __slots__ = ()
    value = "x"

    def __iter__(self):
        return iter(())  # a list of waiting callers, to whom nothing is to be told


def named(field: str) -> Hidden:
    return Hidden(f"{SECRET}<{field}>")


def made(cls: type) -> object:
    """Return an instance of which each field holds a text that names it."""
    if dataclasses.is_dataclass(cls):
        instance = object.__new__(cls)
        for field in dataclasses.fields(cls):
            object.__setattr__(instance, field.name, named(field.name))
        return instance
    if issubclass(cls, BaseModel):
        return cls.model_construct(**{name: named(name) for name in cls.model_fields})
    return cls._make(map(named, cls._fields))


def telling(cls: type) -> set[str]:
    """Return the names of the fields that could hold something that is not for everybody."""
    types = {name: getattr(kind, "__forward_arg__", kind) for name, kind in cls.__annotations__.items()}
    return {name for name, kind in types.items() if PLAIN.sub("", str(kind)) and name != "model_config"}


def classes() -> list[type]:
    """Return every record of the package that would show its fields unasked."""
    found = []
    for module in pkgutil.walk_packages(genai_cache_magic.__path__, "genai_cache_magic."):
        if ".testing" in module.name or module.name.startswith("genai_cache_magic.integrations."):
            continue  # made of answers that a test wrote; adapters, which have libraries of their own to import
        for cls in vars(importlib.import_module(module.name)).values():
            if not inspect.isclass(cls) or cls.__module__ != module.name:
                continue
            is_named_tuple = issubclass(cls, tuple) and hasattr(cls, "_fields")
            if dataclasses.is_dataclass(cls) or is_named_tuple or issubclass(cls, BaseModel):
                found.append(cls)
    return found


def caught(thing: object) -> str:
    """Return a traceback with the values of local variables, as rich, loguru and error trackers take it."""
    try:
        operator.truediv(1, 0 if thing is not None else 1)
    except ZeroDivisionError as exc:
        return "".join(traceback.TracebackException.from_exception(exc, capture_locals=True).format())
    return ""


@pytest.mark.parametrize(
    "cls", classes(), ids=lambda cls: f"{cls.__module__.removeprefix('genai_cache_magic.')}.{cls.__name__}"
)
def test_a_record_shows_only_what_may_be_seen(cls):
    """By `repr`, `str`, a format, or the locals of a traceback."""
    thing = made(cls)
    said = f"{thing!r} {thing!s} {thing} {[thing]} {caught(thing)}"
    shown = {name for name in telling(cls) if f"{SECRET}<{name}>" in said}
    assert {name for name in shown if not {name, f"{cls.__name__}.{name}"} & SHOWN} == set(), (
        "hide it by field(repr=False) or a __repr__; if it may be seen by anyone, add its name to _SHOWN"
    )


def test_every_name_of_the_list_is_shown_somewhere():
    """The list can't come to allow what nobody thought of."""
    there = {name for cls in classes() for name in telling(cls)}
    assert {name for name in SHOWN if name.rpartition(".")[2] not in there} == set()


def test_what_was_asked_and_answered_is_not_shown():
    """The objects of one call, filled as they are in life."""
    request = Request(
        "openai.chat",
        "https://api.openai.com/v1",
        "m",
        {"messages": [SECRET]},
        machine=SECRET,
        headers=(("a", SECRET),),
    )
    call = HttpCall(
        "POST", "https", "api.openai.com", None, "/v1", f"key={SECRET}", {"authorization": SECRET}, SECRET.encode()
    )
    response = Response(200, (("set-cookie", SECRET),), SECRET.encode())
    metadata = Metadata(preview=SECRET, key=SECRET, components={"a": SECRET})
    things = [request, call, response, metadata, KeySpace(salt=SECRET), Options(salt=SECRET)]
    assert SECRET not in f"{things} {caught(things)}"
