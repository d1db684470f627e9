"""Pages in Azure Blob Storage: a blob for each, under the folder of its group.

genai-cache/1/<namespace>/p/<group>/<name>     a page; its metadata says how long it may live

One request lists a group with the ETags of its pages, so who knows them already fetches none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.stores.azure.rows import ServiceClock, ensure_container, name_prefix, remove, ttl_metadata
from genai_cache_magic.stores.base import LARGEST_PAGE, MOST_PAGES, Page
from genai_cache_magic.stores.keys import check_key, check_page, is_key
from genai_cache_magic.stores.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from genai_cache_magic.stores.azure.connection import BlobConnection

_WORKERS: Final = 8


class BlobPages:
    """The pages of a namespace in a container. A ``Pages``; at most 8 are asked for at a time.

    Parameters
    ----------
    connection
        The container; shared with the values of the same namespace, which close it.
    namespace
        Whose: letters, digits, ``.``, ``_`` and ``-``.
    """

    def __init__(self, connection: BlobConnection, namespace: str) -> None:
        self._connection = connection
        self._prefix = f"{name_prefix(namespace)}p/"
        self._workers = Workers(_WORKERS, "genai-cache-pages")

    def put(self, group: str, pages: Mapping[str, bytes], *, ttl_s: float) -> dict[str, str]:
        """Set pages of a group."""
        check_key(group)
        for name, blob in pages.items():
            check_page(name, blob)

        def upload(name: str) -> str:
            with self._connection.use() as container:
                blob = container.get_blob_client(self._name(group, name))
                answer = blob.upload_blob(pages[name], overwrite=True, metadata=ttl_metadata(ttl_s))
            return _revision(answer["etag"])

        asked = {name: self._workers.submit(upload, name) for name in pages}
        return {name: answer.result() for name, answer in asked.items()}

    def revisions(self, groups: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return what there is of each group."""
        for group in groups:
            check_key(group)
        asked = [self._workers.submit(self._listed, group) for group in groups]
        return {group: answer.result() for group, answer in zip(groups, asked, strict=True)}

    def read(self, group: str, names: Collection[str]) -> dict[str, Page]:
        """Return those of the pages that are there."""
        check_key(group)
        for name in names:
            check_key(name)
        asked = {name: self._workers.submit(self._page, self._name(group, name)) for name in names}
        found = ((name, answer.result()) for name, answer in asked.items())
        return {name: page for name, page in found if page is not None}

    def remove(self, group: str, names: Collection[str]) -> None:
        """Remove pages."""
        check_key(group)
        for name in names:
            check_key(name)
        for answer in [self._workers.submit(self._remove, self._name(group, name)) for name in names]:
            answer.result()

    def prune(self) -> int:
        """Remove what has expired."""
        removed = 0
        clock = ServiceClock()
        with self._connection.use() as container:
            found = container.list_blobs(self._prefix, include=["metadata"], raw_response_hook=clock)
            expired = [one.name for one in found if clock.row(one).is_expired]
            for name in expired:
                removed += self._remove(name)
        return removed

    def close(self) -> None:
        """Give up workers; may be called twice."""
        self._workers.close()

    def _listed(self, group: str) -> dict[str, str]:
        return {name: revision for name, revision in self._pages_of(group) if is_key(name)}

    def _pages_of(self, group: str) -> Iterator[tuple[str, str]]:
        prefix = f"{self._prefix}{group}/"
        clock = ServiceClock()
        with self._connection.use() as container:
            found = container.list_blobs(prefix, include=["metadata"], raw_response_hook=clock)
            for count, properties in enumerate(found):
                if count >= MOST_PAGES:  # somebody else's, and without an end
                    return
                if properties.size <= LARGEST_PAGE and not clock.row(properties).is_expired:
                    yield properties.name[len(prefix) :], _revision(properties.etag)

    def _page(self, name: str) -> Page | None:
        from azure.core.exceptions import ResourceNotFoundError

        clock = ServiceClock()
        with self._connection.use() as container:
            try:
                answer = container.download_blob(name, max_concurrency=1, raw_response_hook=clock)
                row = clock.row(answer.properties)
                if row.is_expired or answer.properties.size > LARGEST_PAGE:
                    return None
                return Page(answer.readall(), _revision(row.etag))
            except ResourceNotFoundError as error:
                ensure_container(error)
                return None

    def _remove(self, name: str) -> bool:
        with self._connection.use() as container:
            return remove(container, name)

    def _name(self, group: str, name: str) -> str:
        return f"{self._prefix}{group}/{name}"


def _revision(etag: Any) -> str:
    return str(etag).strip('"')  # a listing tells it without the marks that an answer puts around it
