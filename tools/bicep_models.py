"""Compare docs/azure/main.bicep with the models of Azure's own Python packages: `python tools/bicep_models.py [FILE]`.

For where Bicep's compiler can't be had. Azure generates these packages from the definitions that the compiler has its
types from: each model says of every property what it is called, of which type, whether it has to be there, and whether
only the service may set it; the operations say which names a resource may have. Each release is of one API version, or
of some, so the file names versions of which there is one. In an environment of its own:

    pip install pycep-parser azure-mgmt-redisenterprise==3.1.0 azure-mgmt-storage==21.2.1 azure-mgmt-keyvault==10.3.1 \
        azure-mgmt-authorization==4.0.0 azure-mgmt-network==26.0.0
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
_OURS = {"name", "parent", "scope", "dependsOn"}
"""What Bicep itself reads of a resource, and no service."""
_PYTHON = {"str": str, "int": int, "bool": bool, "float": (int, float)}
_EXAMPLE = {"name": "n" * 15, "suffix": "u" * 13, "id": "00000000-0000-0000-0000-000000000000"}
"""The longest name that may be given, what `uniqueString` makes of it, and an object id."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Where a package says what a kind of resource is made of, and which function builds the request for it."""

    package: str
    model: str
    builder: str

    def model_class(self) -> Any:
        """Return the class of what is sent."""
        return getattr(importlib.import_module(f"azure.mgmt.{self.package}.models"), self.model)

    def request(self) -> str:
        """Return the source of the function that builds the request."""
        module, _, function = self.builder.rpartition(".")
        found = importlib.import_module(f"azure.mgmt.{self.package}.operations.{module}")
        return inspect.getsource(getattr(found, function))


_STORAGE, _VAULT, _ROLES = "storage.v2023_05_01", "keyvault.v2023_07_01", "authorization.v2022_04_01"
_CLUSTER = "Microsoft.Cache/redisEnterprise"
KINDS = {
    _CLUSTER: Kind("redisenterprise", "Cluster", "_redis_enterprise_operations.build_create_request"),
    f"{_CLUSTER}/databases": Kind("redisenterprise", "Database", "_databases_operations.build_create_request"),
    f"{_CLUSTER}/databases/accessPolicyAssignments": Kind(
        "redisenterprise", "AccessPolicyAssignment", "_access_policy_assignment_operations.build_create_update_request"
    ),
    "Microsoft.Storage/storageAccounts": Kind(
        _STORAGE, "StorageAccountCreateParameters", "_storage_accounts_operations.build_create_request"
    ),
    "Microsoft.Storage/storageAccounts/blobServices": Kind(
        _STORAGE, "BlobServiceProperties", "_blob_services_operations.build_set_service_properties_request"
    ),
    "Microsoft.Storage/storageAccounts/blobServices/containers": Kind(
        _STORAGE, "BlobContainer", "_blob_containers_operations.build_create_request"
    ),
    "Microsoft.KeyVault/vaults": Kind(
        _VAULT, "VaultCreateOrUpdateParameters", "_vaults_operations.build_create_or_update_request"
    ),
    "Microsoft.KeyVault/vaults/keys": Kind(
        _VAULT, "KeyCreateParameters", "_keys_operations.build_create_if_not_exist_request"
    ),
    "Microsoft.Authorization/roleAssignments": Kind(
        _ROLES, "RoleAssignmentCreateParameters", "_role_assignments_operations.build_create_request"
    ),
    "Microsoft.Network/privateEndpoints": Kind(
        "network", "PrivateEndpoint", "_operations.build_private_endpoints_create_or_update_request"
    ),
    "Microsoft.Network/privateEndpoints/privateDnsZoneGroups": Kind(
        "network", "PrivateDnsZoneGroup", "_operations.build_private_dns_zone_groups_create_or_update_request"
    ),
}


class Check:
    """One file; `checked` counts properties."""

    def __init__(self, parsed: dict[str, Any]) -> None:
        self.checked = 0
        self._resources: dict[str, Any] = parsed["resources"]
        self._known = {**parsed.get("variables", {}), **parsed.get("parameters", {})}

    def wrong(self) -> Iterator[str]:
        """Yield a line for everything that a model says otherwise."""
        for symbol, resource in self._resources.items():
            kind = KINDS.get(resource["type"])
            if kind is None:
                yield f"{symbol}: {resource['type']} is none of those that are compared"
                continue
            if f'"{resource["api_version"]}"' not in kind.request():
                yield f"{symbol}: the package is not of API version {resource['api_version']}"
            config = _unlooped(resource["config"])
            yield from self._wrong_name(symbol, config, kind)
            yield from self._wrong_in({k: v for k, v in config.items() if k not in _OURS}, kind.model_class(), symbol)

    def _wrong_in(self, given: dict[str, Any], model: Any, path: str) -> Iterator[str]:
        """Yield what is wrong in an object that should be a `model`, whose properties may lie in groups."""
        names = {tuple(one["key"].split(".")): (attribute, one) for attribute, one in _attributes(model)}
        seen = set()
        for keys, value in _flattened(given, set(names)):
            where = ".".join((path, *keys))
            seen.add(keys)
            if keys not in names:
                yield f"{where} is not known to {model.__name__}"
                continue
            attribute, one = names[keys]
            self.checked += 1
            rules = _rules(model, attribute)
            if rules.get("readonly"):
                yield f"{where} is for the service to set"
            yield from self._wrong_value(value, one["type"], model, attribute, where)
        for keys, (attribute, _) in names.items():
            rules = _rules(model, attribute)
            if rules.get("required") and not rules.get("readonly") and keys not in seen and keys[-1] not in _OURS:
                yield f"{path} lacks {'.'.join(keys)}"

    def _wrong_value(self, value: Any, kind: str, model: Any, attribute: str, where: str) -> Iterator[str]:
        if kind.startswith("["):
            items = value if isinstance(value, list) else [_unlooped(value)] if _is_loop(value) else None
            if items is None:
                yield from [] if self._is_reference(value) else [f"{where} is no list"]
                return
            for number, item in enumerate(items):
                yield from self._wrong_value(item, kind[1:-1], model, attribute, f"{where}[{number}]")
            return
        if kind not in _PYTHON:
            inner = getattr(importlib.import_module(model.__module__.rpartition(".")[0]), kind, None)
            if isinstance(value, dict) and inner is not None and hasattr(inner, "_attribute_map"):
                yield from self._wrong_in(value, inner, where)
            elif not self._is_reference(value):
                yield f"{where} is no {kind}"
            return
        choices = _choices(model, attribute)
        for said in self._possible(value):
            if said is not None and (not isinstance(said, _PYTHON[kind]) or (kind == "int" and said is True)):
                yield f"{where} is {said!r}, and should be {kind}"
            elif said is not None and choices and said not in choices:
                yield f"{where} is {said!r}, and should be one of {', '.join(sorted(choices))}"

    def _is_reference(self, value: Any) -> bool:
        return isinstance(value, dict) or value in self._known

    def _possible(self, value: Any) -> Iterator[Any]:
        """Yield what an expression may stand for, None for what is only known when it is deployed."""
        if isinstance(value, str) and value in self._known:
            yield from self._possible(self._known[value].get("value", self._known[value].get("default")))
        elif isinstance(value, dict) and value.get("operator", {}).get("type") == "conditional":
            operands = value["operator"]["operands"]
            yield from self._possible(operands["true_value"])
            yield from self._possible(operands["false_value"])
        else:
            yield None if isinstance(value, dict) else value

    def _wrong_name(self, symbol: str, config: dict[str, Any], kind: Kind) -> Iterator[str]:
        """Yield what the name breaks of the rules for the last part of the resource's address."""
        if "name" not in config:
            yield f"{symbol} lacks a name"
            return
        request = kind.request()
        last = re.findall(r"/\{(\w+)\}[\w/]*\"", request)[-1]  # of the address: what the resource itself is called
        rules = re.search(rf'"{last}": _SERIALIZER\.url\((.*?)\),?\n {{4,8}}["}}]', request, re.DOTALL)
        if rules is None:
            yield f"{symbol}: the package does not say which names it takes"
            return
        name = _made(config["name"]).rpartition("/")[2]
        least, most = (re.search(rf"{bound}=(\d+)", rules[1]) for bound in ("min_length", "max_length"))
        pattern = re.search(r"pattern=r\"(.*?)\"", rules[1])
        if (most and len(name) > int(most[1])) or (least and len(name) < int(least[1])):
            yield f"{symbol}: the name {name} has {len(name)} characters"
        if pattern and not re.search(pattern[1], name):
            yield f"{symbol}: the name {name} does not fit {pattern[1]}"


def _is_loop(value: Any) -> bool:
    return isinstance(value, dict) and "loop_type" in value


def _unlooped(value: Any) -> Any:
    return value["config"] if _is_loop(value) else value


def _flattened(given: dict[str, Any], names: set[tuple[str, ...]]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the properties of an object by the groups that its model takes them from, such as ``properties``."""
    for key, value in given.items():
        if isinstance(value, dict) and not _is_loop(value) and any(n[0] == key and len(n) > 1 for n in names):
            rest = {n[1:] for n in names if n[0] == key and len(n) > 1}
            yield from (((key, *inner), said) for inner, said in _flattened(value, rest))
        else:
            yield (key,), value


def _attributes(model: Any) -> list[tuple[str, dict[str, str]]]:
    return list(model._attribute_map.items())  # noqa: SLF001 - what these packages serialise by, and nothing else says it


def _rules(model: Any, attribute: str) -> dict[str, Any]:
    found: dict[str, Any] = model._validation.get(attribute, {})  # noqa: SLF001 - the same
    return found


def _choices(model: Any, attribute: str) -> set[str]:
    """Return the values that a property may have, as the model's own words name their type; none if any will do."""
    line = re.search(rf":vartype {attribute}:(.*?)(?=\n:|\Z)", inspect.getdoc(model) or "", re.DOTALL)
    found = None if line is None else re.search(r"~([\w.]+)", line[1])
    if found is None:
        return set()
    module, _, name = found[1].rpartition(".")
    choices = getattr(importlib.import_module(module), name, None)
    return {one.value for one in choices} if inspect.isclass(choices) and issubclass(choices, Enum) else set()


def _made(expression: Any) -> str:
    """Return a name as it would be made for the longest `name`."""
    if isinstance(expression, dict):
        function = expression.get("function", {"type": "", "parameters": {}})
        given = [_made(v) if isinstance(v, str | dict) else v for v in function["parameters"].values()]
        by_name = {"take": lambda text, n: text[:n], "replace": str.replace, "guid": lambda *_: _EXAMPLE["id"]}
        return by_name[function["type"]](*given) if function["type"] in by_name else "vault"
    text = _EXAMPLE.get(expression, expression)
    return re.sub(r"\$\{([^}]*)\}", lambda found: _EXAMPLE.get(found[1], "vault"), text)


def main(arguments: list[str]) -> int:
    """Compare; return 1 if anything is wrong."""
    import pycep

    path = Path(arguments[0]) if arguments else ROOT / "docs" / "azure" / "main.bicep"
    parsed = pycep.BicepParser().parse(file_path=path)
    check = Check(parsed)
    wrong = list(check.wrong())
    for line in wrong:
        sys.stdout.write(f"{path.name}: {line}\n")
    sys.stdout.write(f"{len(parsed['resources'])} resources, {check.checked} properties, {len(wrong)} wrong\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
