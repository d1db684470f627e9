"""The files that make a team's resources in Azure are well formed, alike, and say what the code says."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from genai_cache_magic.crypto.wrappers.azure_key_vault import SIGNING, WRAPPING
from genai_cache_magic.crypto.wrappers.azure_vault_client import KEY_BITS
from genai_cache_magic.ops.roles import BLOB_ROLES, VAULT_ROLES
from genai_cache_magic.settings.model import Settings
from genai_cache_magic.stores.azure.connection import BlobTarget

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "azure"
# learn.microsoft.com/azure/role-based-access-control/built-in-roles
AZURES = {
    "Storage Blob Data Reader": "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1",
    "Storage Blob Data Contributor": "ba92f5b4-2d11-453d-a403-e96b0029c9fe",
    "Key Vault Crypto Service Encryption User": "e147488a-f6f5-4113-8e2d-b22465e65bf6",
    "Key Vault Crypto User": "12338af0-0e69-4776-bea7-57ae8d297424",
    "Key Vault Crypto Officer": "14b46e9e-c2b7-41b4-b07b-48a6ebf60603",
}
ROLES = {*BLOB_ROLES.values(), *(name for names in VAULT_ROLES.values() for name in names)}
KEYS = {
    Settings.model_fields["key_name"].default: WRAPPING,
    Settings.model_fields["signing_key_name"].default: SIGNING,
}


# What the linter's rule no-hardcoded-env-urls refuses in any string: learn.microsoft.com/azure/azure-resource-manager/
# bicep/linter-rule-no-hardcoded-environment-urls. A part of a longer name counts where it begins with a dot.
HOSTS = (
    *("api.loganalytics.io", "azuredatalakeanalytics.net", "azuredatalakestore.net", "core.windows.net"),
    *("database.windows.net", "datalake.azure.net", "gallery.azure.com", "graph.windows.net", "trafficmanager.net"),
    *("login.microsoftonline.com", "management.azure.com", "region.asazure.windows.net", "vault.azure.net"),
)


def _reader(module, package):
    """What reads a file; every pinned environment has it (tests/environments/current.txt)."""
    if os.environ.get("CI") == "true" and importlib.util.find_spec(module) is None:
        pytest.fail(f"{package}, which reads the file, is not installed: `pip install {package}`")
    return pytest.importorskip(module, reason=f"pip install {package}")


@pytest.fixture(scope="module")
def bicep():
    """The file for Bicep, taken apart."""
    return _reader("pycep", "pycep-parser").BicepParser().parse(file_path=FOLDER / "main.bicep")


@pytest.fixture(scope="module")
def terraform():
    """The file for Terraform, taken apart: type and name of each resource -> what it says."""
    hcl2 = _reader("hcl2", "python-hcl2")
    with (FOLDER / "main.tf").open(encoding="utf-8") as file:
        parsed = hcl2.load(file)
    return {
        (_text(kind), _text(name)): said
        for resource in parsed["resource"]
        for kind, named in resource.items()
        for name, said in named.items()
    }


def _text(value):
    return value.strip('"') if isinstance(value, str) else value


def _bicep(bicep, kind):
    return [one["config"] for one in bicep["resources"].values() if one["type"] == kind]


def _terraform(terraform, kind):
    return [said for (of, _), said in terraform.items() if of == kind]


def test_both_give_the_roles_of_the_code():
    """By their names in one and their ids in the other; no more and no others."""
    text = (FOLDER / "main.bicep").read_text(encoding="utf-8")
    named = {name: guid for guid, name in re.findall(r"^var \w+ = '([0-9a-f-]{36})' // (.+)$", text, re.MULTILINE)}
    assert named == {name: AZURES[name] for name in ROLES}
    said = re.findall(r'role_definition_name = "(.+)"', (FOLDER / "main.tf").read_text(encoding="utf-8"))
    assert set(said) == ROLES


def test_bicep_makes_the_keys_of_the_code(bicep):
    """Each for what it does, and nothing else."""
    keys = {key["name"]: key["properties"] for key in _bicep(bicep, "Microsoft.KeyVault/vaults/keys")}
    assert {name: tuple(key["keyOps"]) for name, key in keys.items()} == KEYS
    assert {(key["kty"], key["keySize"]) for key in keys.values()} == {("RSA", KEY_BITS)}


def test_bicep_names_no_host_of_one_cloud_in_a_string():
    """Nor in a description, which the rule of Bicep's linter reads as well; a comment may."""
    code = re.sub(r"^\s*//.*$", "", (FOLDER / "main.bicep").read_text(encoding="utf-8"), flags=re.MULTILINE)
    hosts = "|".join(map(re.escape, HOSTS))
    assert re.findall(rf"'[^'\n]*(?<![a-z0-9])(?:{hosts})(?![a-z0-9])[^'\n]*'", code) == []


def test_bicep_uses_all_that_it_names(bicep):
    """A parameter or variable that nothing reads is a warning of Bicep's linter (no-unused-params, no-unused-vars)."""
    text = (FOLDER / "main.bicep").read_text(encoding="utf-8")
    code = re.sub(r"(?m)^\s*//.*$|\s//\s.*$|^@.*$|^\s*\w+:", "", text)  # nor what a property is called
    code = re.sub(r"'[^'\n]*'", lambda found: " ".join(re.findall(r"\$\{[^}]*\}", found[0])), code)
    named = [*bicep["parameters"], *bicep["variables"]]
    assert named
    assert [name for name in named if len(re.findall(rf"(?<!\.)\b{name}\b", code)) < 2] == []


def test_terraform_makes_the_keys_of_the_code(terraform):
    """Each for what it does, and nothing else."""
    keys = {_text(key["name"]): key for key in _terraform(terraform, "azurerm_key_vault_key")}
    assert {name: tuple(map(_text, key["key_opts"])) for name, key in keys.items()} == KEYS
    assert {(_text(key["key_type"]), key["key_size"]) for key in keys.values()} == {("RSA", KEY_BITS)}


def test_bicep_closes_what_should_be_closed(bicep):
    """No public blobs, no shared keys, TLS, purge protection, and a Redis that evicts what has a time to live alone."""
    (storage,) = _bicep(bicep, "Microsoft.Storage/storageAccounts")
    assert storage["properties"]["allowBlobPublicAccess"] is False
    assert storage["properties"]["allowSharedKeyAccess"] is False
    assert storage["properties"]["minimumTlsVersion"] == "TLS1_2"
    (container,) = _bicep(bicep, "Microsoft.Storage/storageAccounts/blobServices/containers")
    assert container["properties"]["publicAccess"] == "None"
    assert BlobTarget(f"https://a.blob.core.windows.net/{container['name']}").container == "llm-cache"
    (vault,) = _bicep(bicep, "Microsoft.KeyVault/vaults")
    assert vault["properties"]["enableRbacAuthorization"] is True
    assert vault["properties"]["enablePurgeProtection"] is True
    (database,) = _bicep(bicep, "Microsoft.Cache/redisEnterprise/databases")
    assert database["properties"] == {
        "clientProtocol": "Encrypted",
        "port": 10_000,
        "clusteringPolicy": "OSSCluster",
        "evictionPolicy": "VolatileLRU",
        "accessKeysAuthentication": "Disabled",
    }


def test_terraform_closes_what_should_be_closed(terraform):
    """The same."""
    (storage,) = _terraform(terraform, "azurerm_storage_account")
    assert storage["allow_nested_items_to_be_public"] is False
    assert storage["shared_access_key_enabled"] is False
    assert _text(storage["min_tls_version"]) == "TLS1_2"
    (container,) = _terraform(terraform, "azurerm_storage_container")
    assert (_text(container["name"]), _text(container["container_access_type"])) == ("llm-cache", "private")
    (vault,) = _terraform(terraform, "azurerm_key_vault")
    assert vault["rbac_authorization_enabled"] is True
    assert vault["purge_protection_enabled"] is True
    (redis,) = _terraform(terraform, "azurerm_managed_redis")
    (database,) = redis["default_database"]
    assert database["access_keys_authentication_enabled"] is False
    assert {_text(database[name]) for name in ("client_protocol", "clustering_policy", "eviction_policy")} == {
        *("Encrypted", "OSSCluster", "VolatileLRU")
    }


def test_terraform_accepts_its_file():
    """As far as it can without a network: it is well formed, and written as it writes it."""
    program = shutil.which("terraform")
    if program is None:
        pytest.skip("terraform is not installed: developer.hashicorp.com/terraform/install")
    done = subprocess.run(
        [program, "fmt", "-check", "-diff", str(FOLDER)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_each_kind_of_resource_is_one_that_can_be_compared(bicep):
    """`tools/bicep_models.py` knows where Azure's packages say what it is made of."""
    spec = importlib.util.spec_from_file_location("bicep_models", ROOT / "tools" / "bicep_models.py")
    tool = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = tool
    try:
        spec.loader.exec_module(tool)
    finally:
        del sys.modules[spec.name]
    assert {one["type"] for one in bicep["resources"].values()} == set(tool.KINDS)


def test_a_change_of_these_files_is_judged_by_their_own_validators():
    """Where those can be had: on GitHub."""
    workflow = (ROOT / ".github" / "workflows" / "azure-files.yml").read_text(encoding="utf-8")
    assert workflow.count(f"{FOLDER.relative_to(ROOT).as_posix()}/**") == 2
    assert "az bicep build --file docs/azure/main.bicep" in workflow
    assert "- run: terraform validate\n" in workflow
    required = re.search(r' version = "(.+)"', (FOLDER / "main.tf").read_text(encoding="utf-8"))
    assert f'sed -i \'s/"{required[1]}"/' in workflow  # which else would validate with one of the two versions twice
