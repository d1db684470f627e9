"""Whatever can be wrong with what names a team's tier, each with the words that name the setting and the fix."""

from __future__ import annotations

from genai_cache_magic.testing.servers import AZURITE_KEY

SECRET = "aHVzaA=="  # a key, as Azure writes them

CASES = {
    "scheme": ({"l2": "reds://h"}, "l2 is no address"),
    "bracket": ({"l2": "redis://:{secret}[@h"}, "percent-encoded"),
    "bracket in Blob": ({"l2": "https://[acct/team?sig={secret}"}, "l2 can't be taken apart"),
    "slash": ({"l2": "redis://:{secret}/@h"}, "%2F for /"),
    "slash after digits": ({"l2": "redis://user:12/{secret}@h"}, "%2F for /"),
    "no scheme": ({"l2": "redis.example.com:6380"}, "l2 is no address"),
    "port": ({"l2": "redis://h:port"}, "the Redis URL in l2"),
    "refused": ({"l2": "redis://:{secret}@127.0.0.1:1"}, "It stands in l2"),
    "host": ({"l2": "redis://:{secret}@no-such-host.invalid"}, "check its spelling in l2"),
    "database": ({"l2": "{open}/99"}, "write another path in l2"),
    "password": ({"l2": "{closed}", "l2_password": SECRET}, "l2_username and l2_password"),
    "no password": ({"l2": "{closed}"}, "l2_username and l2_password"),
    "rights": ({"l2": "{closed}", "l2_username": "reader", "l2_password": "reader"}, "l2_username"),
    "no redis": ({"l2": "redis://:{secret}@127.0.0.1:{azurite}"}, "check host, port and TLS in l2"),
    "no authorities": ({"l2": "rediss://127.0.0.1:1", "l2_ca_file": __file__}, "l2_ca_file"),
    "no file": ({"l2": "rediss://127.0.0.1:1", "l2_ca_file": "/no/such.pem"}, "l2_ca_file"),
    "no container": ({"l2": "{account}/missing", "l2_account_key": AZURITE_KEY}, "l2_create_container"),
    "name": ({"l2": "{account}/Bad_Name", "l2_account_key": AZURITE_KEY}, "the container that l2 names"),
    "key": ({"l2": "{account}/team", "l2_account_key": SECRET}, "l2_account_key"),
    "no key": ({"l2": "{account}/team", "l2_account_key": f"{SECRET}!"}, "l2_account_key is no key"),
    "signature": ({"l2": "{account}/team?sv=2020-01-01&sig={secret}"}, "the signature in l2"),
    "string": ({"l2": "azure-blob://team", "l2_connection_string": f"AccountKey={SECRET}"}, "l2_connection_string"),
    "no account": ({"l2": "azure-blob://team"}, "l2_account"),
    "no storage": ({"l2": "http://127.0.0.1:{redis}/a/team", "l2_account_key": SECRET}, "check the URL in l2"),
    "no TLS": ({"l2": "https://127.0.0.1:{azurite}/a/team", "l2_account_key": SECRET}, "check the port in l2"),
    "another account": ({"l2": "http://127.0.0.1:{azurite}/a/team", "l2_account_key": SECRET}, "account and URL in l2"),
    "no secret": ({"l2": "{account}/team"}, "set l2_account_key"),
    "no cluster": ({"l2": "redis+cluster://127.0.0.1:{redis}"}, "is no cluster: write redis://127.0.0.1:{redis} in l2"),
    "no Sentinel": (
        {"l2": "redis+sentinel://127.0.0.1:{redis}"},
        "is no Sentinel: write redis://127.0.0.1:{redis} in l2",
    ),
    "high port": ({"l2": "redis://h:99999"}, "from 1 to 65535"),
    "in the clear": ({"l2": "http://example.com/team?sig={secret}"}, "starts with https://"),
}

CLOSED = ("--user", "reader", "on", ">reader", "~*", "+@read", "+hello", "--requirepass", "right")
"""Arguments of a redis-server that wants a password, and knows one who may only read."""


def wrong(case, *, closed, redis_server, azurite):
    """Return the settings of a case, by name, and what is to be said of them."""
    given, said = CASES[case]
    where = {"secret": SECRET, "closed": closed.url, "open": redis_server.url.removesuffix("/0")}
    where |= {"azurite": azurite.port, "redis": redis_server.port, "account": azurite.account_url}
    return {name: value.format(**where) for name, value in given.items()}, said.format(**where)
