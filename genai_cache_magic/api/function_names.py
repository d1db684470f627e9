"""Under which name the results of a function are kept."""

from __future__ import annotations

import dis
import enum
import functools
import hashlib
from types import BuiltinFunctionType, CodeType, FunctionType, MappingProxyType, MethodType, ModuleType, NoneType
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_NAMELESS = "<lambda>"
_LOCAL = "<locals>"
_FUNCTIONS = frozenset({FunctionType, MethodType})
_REBINDS = frozenset({"STORE_DEREF", "DELETE_DEREF"})


def function_name(function: Callable[..., Any], *, instead: str = "define it with def") -> str:
    """Return what a function is known by: module and qualified name, and of a wrapper what it wraps.

    All objects of a class have methods of one name, so the method of an object is refused: they would get each other's
    results.

    All that one decorator or factory makes have one qualified name, so what they have taken from around them is told
    too: the functions that they hold, and behind a ``#`` a digest of what else of it can't change within: texts,
    numbers, classes, functions further in. Of a list, a dictionary or any other object nothing is: it may be a log of
    the calls themselves.

    Raises
    ------
    ConfigurationError
        It has no name of its own: a lambda, a partial, an object that can be called, the method of an object.
    """
    qualified = getattr(function, "__qualname__", "")
    if not qualified or qualified.endswith(_NAMELESS):
        raise ConfigurationError(f"a function is known by its name, and this one has none of its own: {instead}")
    owner = getattr(function, "__self__", getattr(function, "__objclass__", None))
    if isinstance(owner, type):  # of a class's method the class that it is called of decides, not the one that has it
        name = f"{owner.__module__}.{owner.__qualname__}.{function.__name__}"
    elif owner is None or type(owner) is ModuleType:
        name = f"{function.__module__}.{qualified}"
    else:
        raise ConfigurationError(
            "a function is known by its name, and this is the method of an object, on which its results may depend "
            f"too: {instead}"
        )
    return name + _around(function, name)


def _around(function: Callable[..., Any], name: str) -> str:
    """Return what is told of what a function has taken from around it, as part of its name."""
    held, told = set(), []
    seen, left = set(), [function]
    while left:
        one = left.pop()
        if id(one) in seen:  # a function that calls itself holds itself
            continue
        seen.add(id(one))
        for variable, value in _held(one):
            if type(value) in _FUNCTIONS or type(value) is functools.partial:
                left.append(value)
            if type(value) in _FUNCTIONS and one is function:
                held.add(f"{value.__module__}.{value.__qualname__}")
            elif (text := _told(value)) is not None:
                told.append(f"{getattr(one, '__qualname__', '')} {variable} {text}")
    others = sorted(held - {name})
    # SECURITY: a digest, since names are listed, and among what is told may be a credential.
    digest = hashlib.sha256("\0".join(told).encode("utf-8", "surrogatepass")).hexdigest()[:16] if told else ""
    return (f"({', '.join(others)})" if others else "") + (f"#{digest}" if digest else "")


def _held(function: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a function, or a partial, has taken from around it, by the names of variables."""
    if type(function) is functools.partial:
        yield "func", function.func
        yield from (("args", one) for one in function.args)
        yield from sorted(function.keywords.items())
        return
    wrapped = getattr(function, "__wrapped__", None)
    if type(wrapped) in _FUNCTIONS:
        yield "__wrapped__", wrapped
    inner = function.__func__ if type(function) is MethodType else function
    if type(inner) is not FunctionType:
        return
    code = inner.__code__
    if code.co_name == _NAMELESS:
        yield "", code
    elif code.co_qualname != inner.__qualname__:  # it goes by the name of what it wraps
        yield "", code.co_qualname
    if _LOCAL in code.co_qualname:  # of one that is made once, defaults are a part like its body
        yield from zip(code.co_varnames, inner.__defaults__ or (), strict=False)
        yield from sorted((inner.__kwdefaults__ or {}).items())
    rebound = _rebound(code) if inner.__closure__ else ()
    for variable, cell in zip(code.co_freevars, inner.__closure__ or (), strict=True):
        try:
            held = cell.cell_contents
        except ValueError:  # it is not there yet
            continue
        if variable not in rebound:  # a count of calls, say
            yield variable, held


@functools.lru_cache(maxsize=256)
def _rebound(code: CodeType) -> frozenset[str]:
    """Return the variables from around a function that it sets itself, or one within it does."""
    found = {str(step.argval) for step in dis.get_instructions(code) if step.opname in _REBINDS}
    return frozenset(found).union(*(_rebound(const) for const in code.co_consts if type(const) is CodeType))


def _told(value: Any) -> str | None:
    """Return a text that is another one for any other value; None for what may change, or is a stranger's.

    Of what is not known nothing is asked: it may be a proxy.
    """
    kind = type(value)
    if kind in _PLAIN:
        return f"{kind.__name__} {_PLAIN[kind](value)}"
    if kind in _FUNCTIONS or kind is BuiltinFunctionType or issubclass(kind, type):
        return f"{kind.__name__} {value.__module__}.{value.__qualname__}"
    if kind in {tuple, frozenset}:
        parts = [_told(one) for one in value]
        known = [f"{len(part)} {part}" for part in parts if part is not None]
        listed = known if kind is tuple else sorted(known)
        return f"{kind.__name__} {''.join(listed)}" if len(known) == len(parts) else None
    return f"{kind.__module__}.{kind.__qualname__}.{value.name}" if issubclass(kind, enum.Enum) else None


def _code(code: CodeType) -> str:
    """Return what tells one function without a name from another, as long as it is run by the same Python."""
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    return f"{code.co_code.hex()} {names} {[_told(const) for const in code.co_consts]}"


_PLAIN: Final[Mapping[type, Callable[[Any], str]]] = MappingProxyType(
    {str: str, int: "{:x}".format, bool: repr, float: repr, complex: repr, bytes: repr, NoneType: repr, CodeType: _code}
)
"""Values of which every other is told: Python writes no number of thousands of digits but as a hexadecimal one."""
