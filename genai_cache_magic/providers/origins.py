"""Where a call goes: the origin as it stands in a key, whose it is, and whether it is this machine's own.

`spec/key.md` §2.1 is normative.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from genai_cache_magic.core.masking import without_credentials
from genai_cache_magic.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genai_cache_magic.core.model import Headers
    from genai_cache_magic.providers.base import HttpCall, OriginRule, Origins

LOCAL: Final = "local"
"""The vendor of this machine's own servers, which bill nothing; who configures it says so of any other."""

PRIVATE: Final = "private"
"""The vendor of what answers from a private network, unless the configuration says whose it is."""

HOSTS: Final[Mapping[str, str]] = {
    "ai-gateway.vercel.sh": "",
    "anthropic.helicone.ai": "anthropic",
    "api-inference.huggingface.co": "huggingface",
    "api.ai21.com": "ai21",
    "api.anthropic.com": "anthropic",
    "api.arcee.ai": "arcee",
    "api.assemblyai.com": "assemblyai",
    "api.avian.io": "avian",
    "api.cerebras.ai": "cerebras",
    "api.cloudflare.com": "cloudflare",
    "api.cohere.ai": "cohere",
    "api.cohere.com": "cohere",
    "api.deepgram.com": "deepgram",
    "api.deepinfra.com": "deepinfra",
    "api.deepseek.com": "deepseek",
    "api.elevenlabs.io": "elevenlabs",
    "api.fireworks.ai": "fireworks",
    "api.githubcopilot.com": "github-copilot",
    "api.groq.com": "groq",
    "api.hyperbolic.xyz": "hyperbolic",
    "api.jina.ai": "jina",
    "api.minimax.io": "minimax",
    "api.minimaxi.com": "minimax",
    "api.mistral.ai": "mistral",
    "api.moonshot.ai": "moonshotai",
    "api.moonshot.cn": "moonshotai",
    "api.novita.ai": "novita",
    "api.openai.com": "openai",
    "api.perplexity.ai": "perplexity",
    "api.portkey.ai": "",
    "api.replicate.com": "replicate",
    "api.sambanova.ai": "sambanova",
    "api.stability.ai": "stability",
    "api.studio.nebius.ai": "nebius",
    "api.studio.nebius.com": "nebius",
    "api.together.ai": "together",
    "api.together.xyz": "together",
    "api.voyageai.com": "voyageai",
    "api.x.ai": "x-ai",
    "api.z.ai": "zai",
    "codestral.mistral.ai": "mistral",
    "dashscope-intl.aliyuncs.com": "alibaba",
    "dashscope.aliyuncs.com": "alibaba",
    "fal.run": "fal",
    "gateway.ai.cloudflare.com": "",
    "generativelanguage.googleapis.com": "google",
    "inference.baseten.co": "baseten",
    "integrate.api.nvidia.com": "nvidia",
    "models.github.ai": "github-models",
    "models.inference.ai.azure.com": "github-models",
    "oai.endpoints.kepler.ai.cloud.ovh.net": "ovhcloud",
    "oai.helicone.ai": "openai",
    "ollama.com": "ollama",
    "open.bigmodel.cn": "zhipuai",
    "openrouter.ai": "openrouter",
    "queue.fal.run": "fal",
    "router.huggingface.co": "huggingface",
}
"""Hosts that serve models -> their id in `genai-prices`; empty where a gateway passes on whose model it is.

Who sells models of others at prices of its own, and is not in that list, has a name here that is not there either:
its prices are unknown, not those of whoever the list finds by the model's name.
"""

DOMAINS: Final[Mapping[str, str]] = {
    "api.openai.com": "openai",  # data residency: eu., us.
    "api.x.ai": "x-ai",
    "azure-api.net": "azure",
    "azuredatabricks.net": "databricks",
    "cloud.databricks.com": "databricks",
    "cognitiveservices.azure.com": "azure",
    "endpoints.huggingface.cloud": "huggingface-endpoints",
    "gcp.databricks.com": "databricks",
    "helicone.ai": "",
    "inference.ai.azure.com": "azure",
    "models.ai.azure.com": "azure",
    "openai.azure.cn": "azure",
    "openai.azure.com": "azure",
    "openai.azure.us": "azure",
    "services.ai.azure.com": "azure",
}
"""Domains whose subdomains serve models -> vendor."""

_SHARED: Final[Mapping[str, re.Pattern[str]]] = {
    ".api.cloudflare.com": re.compile(r"/ai(?:-gateway)?/"),
    ".api.helicone.ai": re.compile(r"/chat/"),
    ".azure-api.net": re.compile(r"/(?:openai|models|anthropic)/"),
    ".aiplatform.googleapis.com": re.compile(
        r"/(?:batchPredictionJobs|cachedContents|endpoints|interactions|publishers|ragCorpora|reasoningEngines|tuningJobs)\b"
    ),
    ".cognitiveservices.azure.com": re.compile(r"/(?:openai|models|anthropic)/"),
    "databricks.com": re.compile(r"/(?:serving-endpoints|ai-gateway)/"),
    ".azuredatabricks.net": re.compile(r"/(?:serving-endpoints|ai-gateway)/"),
    "-aiplatform.googleapis.com": re.compile(
        r"/(?:batchPredictionJobs|cachedContents|endpoints|interactions|publishers|ragCorpora|reasoningEngines|tuningJobs)\b"
    ),
}
"""Ends of hosts that serve much else beside models -> which part of their paths is about models."""

_REGIONAL: Final = (
    (re.compile(r"([a-z0-9-]+-)?aiplatform(\.[a-z0-9-]+\.rep)?\.googleapis\.com"), "google"),
    (
        re.compile(
            r"(vpce-[a-z0-9-]+\.)?(bedrock-(runtime|mantle|agent-runtime)|runtime\.sagemaker)(-fips)?\.[a-z]{2,4}(-[a-z]+)+-[0-9]+"
            r"\.(vpce\.)?(amazonaws\.com(\.cn)?|api\.aws)"
        ),
        "aws",
    ),
)
"""Hosts with a region within their name -> vendor."""

_REGIONAL_DOMAINS: Final = (".googleapis.com", ".amazonaws.com", ".amazonaws.com.cn", ".api.aws")

_DEFAULT_PORTS: Final = {"https": 443, "http": 80}

# Names that mean another host on every network. A single label does too.
_PRIVATE_DOMAINS: Final = (".local", ".localhost", ".internal", ".lan", ".home.arpa")

# Parameters of the query that are credentials. SECURITY: they never become part of a key, or a team
# could not share, and whoever holds the key could test guesses of them.
_CREDENTIALS: Final = frozenset(
    {"access_token", "api-key", "api_key", "apikey", "code", "key", "sig", "subscription-key", "token"}
)


class Place(NamedTuple):
    """Where a call goes.

    Attributes
    ----------
    origin
        Normalised base URL, or what the configuration puts in its place, with what the query adds to it.
    machine
        This host's identity if the origin is its own or its network's, else empty.
    vendor
        Id in `genai-prices`, empty if it can't be told; `LOCAL` on this machine.
    api_version
        ``api-version`` of the query, else empty.
    models
        Deployment -> model, from the configuration.
    via
        What addresses it beside the URL, as (kind, value), sorted.
    """

    origin: str
    machine: str
    vendor: str
    api_version: str
    models: Mapping[str, str]
    via: Headers = ()

    def __repr__(self) -> str:
        return f"<Place of {self.vendor or 'somebody'}>"


def locate(call: HttpCall, base_path: str, origins: Origins) -> Place:
    """Return where `call` goes.

    Parameters
    ----------
    call
        The call.
    base_path
        Its path without what names the wire API and the deployment.
    origins
        What is known of origins.
    """
    host = _normal_host(call.host)
    url = _base_url(call.scheme, host, call.port, base_path)
    prefix, rule = _longest_match(url, origins.rules)
    vendor = vendor_of(host)
    via = _via(call, host)
    origin, machine = url, ""
    if rule is not None and (rule.alias or rule.models):
        origin = _named(prefix, rule) + url[len(prefix) :]
    is_within = (vendor is None and is_private(host)) or _leads_within(via)
    if is_within and not (rule is not None and rule.alias):
        machine = origins.machine
    if vendor is None and is_private(host):
        # What answers from the network may well be a gateway that bills: its prices are its own, and not known.
        vendor = LOCAL if is_own(host) else PRIVATE
    models: Mapping[str, str] = {}
    if rule is not None:
        vendor = rule.provider or vendor
        models = rule.models or models
    api_version, query = _split_query(call.query) if call.query else ("", "")
    return Place(f"{origin}?{query}" if query else origin, machine, vendor or "", api_version, models, via)


def serves_models(call: HttpCall, origins: Origins) -> bool:
    """Tell whether `call` goes where models are expected: a known, configured or private origin."""
    host = _normal_host(call.host)
    if vendor_of(host) is not None or is_private(host):
        return True
    url = _base_url(call.scheme, host, call.port, call.path)
    return _longest_match(url, origins.rules)[1] is not None


def is_of_models(call: HttpCall, origins: Origins) -> bool:
    """Tell whether `call` goes to a known or configured host of models, and there to where the models are."""
    host = _normal_host(call.host)
    if vendor_of(host) is not None:
        part = next((part for domain, part in _SHARED.items() if f".{host}".endswith(domain)), None)
        return part is None or part.search(call.path) is not None
    url = _base_url(call.scheme, host, call.port, call.path)
    return _longest_match(url, origins.rules)[1] is not None


def ignores_no_store(call: HttpCall, origins: Origins) -> bool:
    """Tell whether the configuration says that ``no-store`` of where `call` goes does not count."""
    rule = _longest_match(_base_url(call.scheme, _normal_host(call.host), call.port, call.path), origins.rules)[1]
    return rule is not None and rule.ignores_no_store


def normalise_origin(url: str) -> str:
    """Return `url` as origins are compared: no default port, user, query, fragment or final slash.

    Raises
    ------
    ConfigurationError
        `url` is not an absolute ``http`` or ``https`` URL.
    """
    normal = _normal_url(url)
    if not normal:
        shown = without_credentials(url)
        raise ConfigurationError(f"origin {shown!r} is not a URL; write it like https://gateway.example.com/v1")
    return normal


def is_private(host: str) -> bool:
    """Tell whether `host` may be another machine for everyone who writes its name.

    True for loopback, link-local, private, shared (100.64/10) and reserved addresses, single labels, and
    names such as ``box.local`` or ``llm.internal``.
    """
    host = host.strip("[]")
    if ":" not in host and not host[-1:].isdigit():
        return "." not in host or host.endswith(_PRIVATE_DOMAINS)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return True  # such as 127.1, which resolvers take for an address
    mapped = getattr(address, "ipv4_mapped", None)
    return not (mapped or address).is_global


def is_own(host: str) -> bool:
    """Tell whether `host` is this machine: loopback, or a container's name of the machine that it runs on."""
    host = host.strip("[]")
    if host == "localhost" or host.endswith((".localhost", ".docker.internal", "host.containers.internal")):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    own = mapped or address
    return own.is_loopback or own.is_unspecified


def _via(call: HttpCall, host: str) -> Headers:
    """Return what addresses the service of `call` beside its URL, whose host is `host`.

    A proxy passes an ``https`` call of a public host on without knowing more of it than that host, which proves
    itself to the caller. Any other call it may answer by whoever it likes.
    """
    route = call.route
    told = call.headers.get("host")
    if told is None and not route:
        return ()  # nearly always
    if route and call.scheme == "https" and not is_private(host):
        route = tuple(way for way in route if way[0] != "proxy")
    own = f"{host}:{call.port}" if call.port else host
    if told and told != own:
        named = _normal_authority(told, call.scheme)
        route = route if named == _normal_authority(own, call.scheme) else (*route, ("host", named))
    if not route:
        return ()
    return tuple(sorted((kind, value) for kind, value in route if (kind, value) != ("sni", host)))


def _leads_within(via: Headers) -> bool:
    """Tell whether `via` leads by something of this machine or of its network: a socket, a proxy."""
    for kind, value in via:
        if kind == "socket" or (kind == "proxy" and is_private(urlsplit(value).hostname or "")):
            return True
    return False


def _normal_authority(text: str, scheme: str) -> str:
    """Return a ``host`` header, or a URL's host and port, as they are compared: lower case, no default port."""
    normal = _normal_url(f"{scheme}://{text.strip()}")
    return normal.partition("://")[2] if normal else text.strip().lower()


def _normal_host(host: str) -> str:
    host = host.rstrip(".")
    if ":" not in host:
        return host
    try:
        return f"[{ipaddress.ip_address(host.strip('[]')).compressed}]"
    except ValueError:
        return host


def _base_url(scheme: str, host: str, port: int | None, path: str) -> str:
    where = host if port is None or port == _DEFAULT_PORTS.get(scheme) else f"{host}:{port}"
    return f"{scheme}://{where}{path.rstrip('/')}"


def _normal_url(url: str) -> str:
    """Return `url` normalised, or an empty text if it is not an origin."""
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        return ""
    if not host or parts.scheme not in _DEFAULT_PORTS:
        return ""
    return _base_url(parts.scheme, _normal_host(host), port, parts.path)


def _named(prefix: str, rule: OriginRule) -> str:
    """Return what stands in a key for the origin `prefix`, of which `rule` says who shares its answers.

    SECURITY: no URL begins with these words and no part of them can hold what ends it, so that a rule, whoever wrote
    it, can't give the calls to one origin the keys of another, nor those of one circle the keys of another.
    """
    name = f"alias:{quote(rule.alias, safe='')}" if rule.alias else f"models:{quote(prefix, safe='')}"
    return f"{name}@{rule.circle}" if rule.circle else name


def _longest_match(url: str, rules: Mapping[str, OriginRule]) -> tuple[str, OriginRule | None]:
    """Return the longest configured prefix of `url` and its rule; a prefix ends where a segment ends."""
    best: tuple[str, OriginRule | None] = ("", None)
    for text, rule in rules.items():
        prefix = _normal_url(text)
        if len(prefix) > len(best[0]) and (url == prefix or url.startswith(f"{prefix}/")):
            best = (prefix, rule)
    return best


@functools.lru_cache(maxsize=256)
def vendor_of(host: str) -> str | None:
    """Return the vendor of a host that serves models, None if it is not known to."""
    host = _normal_host(host)
    vendor = HOSTS.get(host)
    parent = host
    while vendor is None and parent:
        parent = parent.partition(".")[2]
        vendor = DOMAINS.get(parent)
    if vendor is None and host.endswith(_REGIONAL_DOMAINS):
        vendor = next((name for pattern, name in _REGIONAL if pattern.fullmatch(host)), None)
    return vendor


def _split_query(query: str) -> tuple[str, str]:
    """Return the API version that `query` names and the rest of it, sorted and without credentials."""
    pairs = parse_qsl(query, keep_blank_values=True)
    version = next((value for name, value in pairs if name == "api-version"), "")
    rest = sorted((n, v) for n, v in pairs if n != "api-version" and n.lower() not in _CREDENTIALS)
    return version, urlencode(rest)
