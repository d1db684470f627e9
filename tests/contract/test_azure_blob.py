"""Azure Blob Storage keeps the contracts of ``Store`` and ``Document`` over a real Azurite; errors are sentences."""

from __future__ import annotations

import base64
import contextlib
import email.utils
import time

import pytest
from services import LEAVES_SOCKETS, answering, started

from genai_cache_magic.errors import ConfigurationError, StoreDenied, StoreThrottled, StoreUnavailable
from genai_cache_magic.stores.azure import blob as azure_blob
from genai_cache_magic.stores.azure import rows as azure_rows
from genai_cache_magic.stores.azure.blob import BlobDocument, BlobStore, BlobTier
from genai_cache_magic.stores.azure.connection import BlobConnection, BlobTarget
from genai_cache_magic.stores.base import SupportsCheck, SupportsFill, SupportsGetMany
from genai_cache_magic.stores.breaker import Breaker, BreakerConfig
from genai_cache_magic.stores.guarded import guard_store
from genai_cache_magic.testing.contracts.document import DocumentContract
from genai_cache_magic.testing.contracts.store import StoreContract, key_of
from genai_cache_magic.testing.contracts.tier import SharedTierContract
from genai_cache_magic.testing.servers import AZURITE_KEY, Azurite, cut_off, free_port

pytestmark = [
    pytest.mark.service,
    pytest.mark.usefixtures("no_id_of_time"),
    *LEAVES_SOCKETS,
]


def used(target):
    """Do with `target` all that can fail before anything is asked."""
    target.check()
    target.connect()


@contextlib.contextmanager
def connected(url, **how):
    """A connection that is closed at the block's end."""
    connection = BlobConnection(BlobTarget(url, **how))
    try:
        yield connection
    finally:
        connection.close()


@pytest.fixture
def connection(azurite):
    with connected(f"{azurite.account_url}/shared", account_key=AZURITE_KEY, create_container=True) as connection:
        yield connection


class TestBlobStore(StoreContract):
    @pytest.fixture
    def store(self, connection, team):
        store = BlobStore(connection, team)
        yield store
        store.close()

    @pytest.fixture
    def pass_time(self, connection, team):
        """Shorten what is left of every value's life: nobody can turn the service's clock."""

        def age(seconds):
            with connection.use() as container:
                for row in container.list_blobs(f"genai-cache/1/{team}/e/", include=["metadata"]):
                    if (ttl := row.metadata["ttl_ms"]).isdecimal():
                        left = str(max(0, int(ttl) - int(seconds * 1000)))
                        container.get_blob_client(row.name).set_blob_metadata({"ttl_ms": left})

        return age

    def test_powers(self, store):
        """It answers many look-ups at once, fills on a condition, and can remove what expired."""
        assert isinstance(store, SupportsGetMany)
        assert isinstance(store, SupportsFill)
        assert isinstance(store, SupportsCheck)

    def test_namespaces_are_apart(self, connection, team):
        """A value of one name space is nowhere in another, nor in one whose name begins alike."""
        BlobStore(connection, team).put(key_of("a"), b"a", ttl_s=60)
        for name in (f"{team}x", team[:-1]):
            assert BlobStore(connection, name).get(key_of("a")) is None
            assert list(BlobStore(connection, name).scan()) == []

    def test_check_removes_what_expired(self, store, connection, team, pass_time):
        """What expired is removed by a check, and nothing else, blobs of others included."""
        with connection.use() as container:
            container.upload_blob(f"{team}-of-another-program", b"x", overwrite=True)
        for number in range(3):
            store.put(key_of(f"brief {number}"), b"x", ttl_s=60)
        store.put(key_of("long"), b"x", ttl_s=6000)
        pass_time(600)
        assert store.check().removed_rows == 3
        assert store.check().removed_rows == 0
        assert list(store.scan()) == [key_of("long")]
        with connection.use() as container:
            assert len([*container.list_blobs(f"genai-cache/1/{team}/")]) == 1
            assert [*container.list_blob_names(name_starts_with=f"{team}-of-another")]

    def test_what_is_not_ours_is_not_served(self, store, connection, team):
        """A blob without our metadata has no time to live, and so none left."""
        with connection.use() as container:
            container.upload_blob(f"genai-cache/1/{team}/e/{key_of('a')}", b"x")
        assert store.get(key_of("a")) is None
        assert store.put_if(key_of("a"), b"ours", ttl_s=60, held=None)
        assert store.get(key_of("a")) == b"ours"

    @pytest.mark.parametrize(
        ("blob", "ttl"),
        [(bytes(101), "endless"), (b"x", "9" * 5000), (b"x", "9" * 400), (b"x", "-1"), (b"x", "1e9")],
        ids=["large", "no-number", "no-float", "negative", "no-whole-number"],
    )
    def test_what_can_be_no_value_is_absent(self, store, connection, team, monkeypatch, blob, ttl):  # noqa: PLR0917
        """More than any entry holds, or a time to live that is none, is not fetched, and gives way to an entry."""
        monkeypatch.setattr(azure_rows, "LARGEST_VALUE", 100)
        with connection.use() as container:
            container.upload_blob(f"genai-cache/1/{team}/e/{key_of('a')}", blob, metadata={"ttl_ms": ttl})
        assert store.get(key_of("a")) is None
        assert store.put_if(key_of("a"), b"ours", ttl_s=60, held=None)
        assert store.get(key_of("a")) == b"ours"


class TestBlobDocument(DocumentContract):
    @pytest.fixture
    def document(self, connection, team):
        return BlobDocument(connection, team, "generations")

    @pytest.fixture
    def other(self, connection, team):
        return BlobDocument(connection, team, "generations")

    def test_what_is_larger_than_any_is_absent(self, document, connection, team, monkeypatch):
        """It is not fetched, and gives way to a document."""
        monkeypatch.setattr(azure_blob, "LARGEST_DOCUMENT", 100)
        with connection.use() as container:
            container.upload_blob(f"genai-cache/1/{team}/d/generations", bytes(101))
        assert document.load() is None
        assert document.version() is None
        assert document.replace(b"a", expected=None)
        assert document.load() == b"a"


class TestBlobTier(SharedTierContract):
    @pytest.fixture
    def tier(self, connection, team):
        tier = BlobTier(connection, team, patience_s=30)  # a look-up gives what came in time: here all does
        yield tier
        tier.close()


class TestCredentials:
    """Each way to be known to the account works with the unchanged SDK."""

    def works(self, connection, team):
        store = BlobStore(connection, team)
        store.put(key_of("a"), b"a", ttl_s=60)
        assert store.get(key_of("a")) == b"a"

    def test_connection_string(self, azurite, connection, team):
        """A connection string with the container's name."""
        with connection.use(), connected("azure-blob://shared", connection_string=azurite.connection_string) as other:
            self.works(other, team)

    def test_signature(self, azurite, connection, team):
        """A shared access signature in the URL, which is shown nowhere."""
        import datetime as dt

        from azure.storage.blob import generate_container_sas

        with connection.use():
            expiry = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
            signature = generate_container_sas(
                "devstoreaccount1", "shared", account_key=AZURITE_KEY, permission="racwdl", expiry=expiry
            )
        with connected(f"{azurite.account_url}/shared?{signature}") as other:
            self.works(other, team)
            assert "sig=" not in repr(other) + repr(other.target) + other.name


class TestErrors:
    """Whatever the service does, a store raises ``StoreUnavailable``, which says what to do and holds no secret."""

    def said(self, url, expected=StoreUnavailable, **how):
        how = {"account_key": AZURITE_KEY, "connect_timeout_s": 0.3, "command_timeout_s": 0.5, **how}
        with connected(url, **how) as connection:
            store = BlobStore(connection, "team")
            with pytest.raises(expected) as caught:
                store.get(key_of("a"))
            for call in (
                lambda: store.put(key_of("a"), b"a", ttl_s=60),
                lambda: store.get_many([key_of("a")]),
                lambda: [*store.scan()],
                lambda: BlobDocument(connection, "team", "generations").version(),
            ):
                with pytest.raises(StoreUnavailable):
                    call()
            store.close()
        text = str(caught.value)
        assert "sig=" not in text
        assert how["account_key"] not in text + repr(connection) + repr(connection.target)
        return text

    def test_refused(self):
        """A port where nobody listens is named."""
        assert "refuses connections" in self.said(f"http://127.0.0.1:{free_port()}/devstoreaccount1/shared")

    def test_no_container(self, azurite):
        """A container that is not there is trouble, not an empty cache."""
        assert "is no container" in self.said(f"{azurite.account_url}/nowhere")

    @pytest.mark.parametrize("is_made", [True, False])
    def test_a_container_that_was_removed_meanwhile(self, azurite, team, is_made):
        """It is made anew by who was asked to make it, and used again when somebody else did; without a restart."""
        how = {"account_key": AZURITE_KEY, "create_container": is_made}
        with (
            connected(f"{azurite.account_url}/{team}", **{**how, "create_container": True}) as other,
            connected(f"{azurite.account_url}/{team}", **how) as connection,
        ):
            with other.use() as client:
                breaker = Breaker("blob", BreakerConfig(failures=1, first_pause_s=0.0, longest_pause_s=0.0))
                store = guard_store(BlobStore(connection, team), breaker)
                store.put(key_of("a"), b"a", ttl_s=60)
                client.delete_container()
                with pytest.raises(StoreUnavailable, match="is no container"):
                    store.get(key_of("a"))
                if not is_made:
                    client.create_container()
            assert store.get(key_of("a")) is None
            store.put(key_of("a"), b"b", ttl_s=60)
            assert store.get(key_of("a")) == b"b"

    def test_wrong_key(self, azurite):
        """A key of another account is a denial, and so is one that is none."""
        wrong = base64.b64encode(bytes(64)).decode()
        assert "refuses this identity" in self.said(f"{azurite.account_url}/shared", StoreDenied, account_key=wrong)
        self.said(f"{azurite.account_url}/shared", StoreDenied, account_key="no key")

    @pytest.mark.parametrize(
        ("code", "words"),
        [
            ("AuthorizationFailure", "firewall"),
            ("KeyBasedAuthenticationNotPermitted", "accepts no account key"),
            ("AuthorizationPermissionMismatch", "Storage Blob Data Contributor"),
            ("AuthorizationSourceIPMismatch", "other addresses"),
            ("AccountIsDisabled", "is disabled"),
            ("AuthenticationFailed", "refuses this identity"),
            ("OfALaterRelease", "refuses this identity"),
        ],
    )
    def test_why_it_refuses(self, code, words):
        """What the service says of a refusal tells what to look at, since all have one status."""
        with answering(f"HTTP/1.1 403 No\r\nx-ms-error-code: {code}\r\ncontent-length: 0\r\n\r\n".encode()) as port:
            assert words in self.said(f"http://127.0.0.1:{port}/a/shared", StoreDenied)

    @pytest.mark.parametrize(("off_s", "words"), [(3_600, "60 minutes behind"), (-3_600, "60 minutes ahead of")])
    def test_a_clock_that_is_wrong(self, off_s, words):
        """A signature of another time than the service's is refused as a wrong key is: the clock is named."""
        date = email.utils.formatdate(time.time() + off_s, usegmt=True)
        refusal = "HTTP/1.1 403 No\r\nx-ms-error-code: AuthenticationFailed\r\ncontent-length: 0\r\n"
        with answering(f"{refusal}Date: {date}\r\n\r\n".encode()) as port:
            assert words in self.said(f"http://127.0.0.1:{port}/a/shared", StoreDenied)

    def test_a_container_that_is_not_to_be_changed(self):
        """A policy of the container's is named, since no other right helps."""
        refusal = "HTTP/1.1 409 No\r\nx-ms-error-code: BlobImmutableDueToPolicy\r\ncontent-length: 0\r\n\r\n"
        with answering(refusal.encode()) as port:
            assert "has a policy" in self.said(f"http://127.0.0.1:{port}/a/shared")

    def test_a_proxy_that_is_not_there(self, monkeypatch):
        """It is not said that the service refuses connections."""
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:pass@127.0.0.1:{free_port()}")
        monkeypatch.setenv("NO_PROXY", "")
        text = self.said("https://account.blob.core.windows.net/shared", connect_timeout_s=10, command_timeout_s=10)
        assert "proxy" in text
        assert "user:pass" not in text

    def test_no_proxy_sees_what_stays_on_this_machine(self, azurite, connection, team, monkeypatch):
        """An emulator is asked in the clear, and so by nobody who would carry that over a network."""
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        how = {"connection_string": azurite.connection_string}
        for url, more in (
            (f"{azurite.account_url}/shared", {"account_key": AZURITE_KEY}),
            ("azure-blob://shared", how),
        ):
            with connected(url, **more) as other:
                BlobStore(other, team).put(key_of("a"), b"a", ttl_s=60)
                assert BlobStore(other, team).get(key_of("a")) == b"a"

    def test_black_hole(self):
        """A service that accepts and says nothing costs the time-out, once."""
        with started(Azurite) as server, cut_off(server):
            assert "does not answer in time" in self.said(f"{server.account_url}/shared")

    @pytest.mark.parametrize(
        ("answer", "kind"),
        [
            (b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\ncontent-length: 0\r\n\r\n", StoreThrottled),
            (b"HTTP/1.1 429 Slow\r\nRetry-After: soon\r\ncontent-length: 0\r\n\r\n", StoreThrottled),
            (b"HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n", StoreDenied),
            (b"HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n", StoreDenied),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort", StoreUnavailable),
            (b"not http at all\r\n\r\n", StoreUnavailable),
            (b"", StoreUnavailable),
        ],
        ids=["503", "429", "403", "401", "cut", "garbage", "closed"],
    )
    def test_other_answers(self, answer, kind):
        """Errors of the service, an answer that ends early and one that is no HTTP are told apart."""
        with (
            answering(answer) as port,
            connected(f"http://127.0.0.1:{port}/a/shared", account_key="AAAA") as connection,
        ):
            with pytest.raises(kind) as caught:
                BlobStore(connection, "team").get(key_of("a"))
            assert type(caught.value) is kind
            if b"503" in answer:
                assert caught.value.retry_after_s == 7


class TestTarget:
    @pytest.mark.parametrize(
        "url",
        ["http://account.blob.core.windows.net/shared", "https://account/", "redis://host/abc", "azure-blob://", ""],
    )
    def test_a_wrong_url(self, url):
        """A URL that is no container's, or that would send keys in the clear, is a mistake in words."""
        target = BlobTarget(url, account_key="AAAA")
        with pytest.raises(ConfigurationError):
            used(target)

    def test_a_name_needs_a_connection_string(self):
        """A container's name alone says no account."""
        with pytest.raises(ConfigurationError, match="AZURE_STORAGE_CONNECTION_STRING"):
            BlobTarget("azure-blob://shared").connect()

    def test_a_wrong_connection_string(self):
        """A connection string that is none is a mistake in words, without what stands in it."""
        with pytest.raises(ConfigurationError) as caught:
            BlobTarget("azure-blob://shared", connection_string="s3cret").connect()
        assert "s3cret" not in str(caught.value)

    def test_its_address(self):
        """What is shown has account and container, and no signature."""
        target = BlobTarget("https://account.blob.core.windows.net/shared?sv=1&sig=s3cret")
        assert target.address == "https://account.blob.core.windows.net/shared"
        assert "s3cret" not in repr(target)
