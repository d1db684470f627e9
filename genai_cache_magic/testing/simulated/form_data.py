"""Forms with files as they arrive: read by the standard library, so that it is another reader than the product's."""

from __future__ import annotations

import hashlib
from email import message_from_bytes
from email.policy import HTTP
from typing import Any

FORM_TYPE = "multipart/form-data"


def fields_of(content_type: str, body: bytes) -> dict[str, Any] | None:
    """The fields of a form: texts, and for each file its name, type, size and digest. None if `body` is no form.

    A field that comes repeatedly is a list.
    """
    if not content_type.lower().startswith(FORM_TYPE):
        return None
    form = message_from_bytes(b"content-type: " + content_type.encode("latin-1") + b"\r\n\r\n" + body, policy=HTTP)
    if not form.is_multipart() or form.defects:
        return None
    fields: dict[str, list[Any]] = {}
    for part in form.iter_parts():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        if not isinstance(name, str) or not isinstance(content, bytes):
            return None
        fields.setdefault(name, []).append(_field(part.get_filename(), part.get("content-type"), content))
    return {name: values[0] if len(values) == 1 else values for name, values in fields.items()}


def _field(filename: str | None, content_type: str | None, content: bytes) -> Any:
    if filename is None:
        return content.decode("utf-8", "replace")
    digest = hashlib.sha256(content).hexdigest()
    return {"filename": filename, "content_type": content_type, "size_bytes": len(content), "sha256": digest}
