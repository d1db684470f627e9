"""Media by their address, and prompts and files by a name: what may change behind a name, and names that change."""

from __future__ import annotations

import pytest
from unit.model_calls import CHAT, HELLO, NOWHERE, RESPONSES, call

from genai_cache_magic.core.canonical import canonical_bytes
from genai_cache_magic.core.model import KeySpace
from genai_cache_magic.core.policy import Refuse, Store, admissible
from genai_cache_magic.providers.base import Origins
from genai_cache_magic.providers.references import REASON, unsigned
from genai_cache_magic.providers.registry import recognise

PICTURE = "https://pictures.example.com/a.png"


def shown(path, body, host="api.openai.com", origins=NOWHERE):
    return recognise(call(path, body, host), origins)


def key(found):
    return canonical_bytes(found.request, KeySpace())


def chat(part):
    return "/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": [part]}]}, "api.openai.com"


def responses(part):
    return "/v1/responses", {"model": "m", "input": [{"role": "user", "content": [part]}]}, "api.openai.com"


def claude(block):
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": [block]}]}
    return "/v1/messages", body, "api.anthropic.com"


def gemini(part):
    return "/v1beta/models/m:generateContent", {"contents": [{"parts": [part]}]}, "generativelanguage.googleapis.com"


def converse(block):
    body = {"messages": [{"role": "user", "content": [block]}]}
    return "/model/m/converse", body, "bedrock-runtime.us-east-1.amazonaws.com"


LINKED = {
    "chat image": lambda url: chat({"type": "image_url", "image_url": {"url": url}}),
    "chat image as a text": lambda url: chat({"type": "image_url", "image_url": url}),
    "jina image": lambda url: ("/v1/embeddings", {"model": "m", "input": [{"image": url}]}, "api.jina.ai"),
    "chat video": lambda url: chat({"type": "video_url", "video_url": {"url": url}}),
    "mistral sound": lambda url: chat({"type": "input_audio", "input_audio": url}),
    "sound in the place of its bytes": lambda url: chat({"type": "input_audio", "input_audio": {"data": url}}),
    "openrouter file": lambda url: chat({"type": "file", "file": {"filename": "a.pdf", "file_data": url}}),
    "qwen frames": lambda url: chat({"type": "video", "video": ["https://a.example.com/1.png", url]}),
    "qwen video": lambda url: chat({"type": "video", "video": url}),
    "cohere images": lambda url: ("/v2/embed", {"model": "m", "images": [url]}, "api.cohere.com"),
    "image to begin with": lambda url: (
        "/v1/images/generations",
        {"model": "m", "prompt": "a", "image_url": url},
        "api.together.xyz",
    ),
    "mistral document": lambda url: chat({"type": "document_url", "document_url": url}),
    "responses image": lambda url: responses({"type": "input_image", "image_url": url}),
    "responses file": lambda url: responses({"type": "input_file", "file_url": url}),
    "claude image": lambda url: claude({"type": "image", "source": {"type": "url", "url": url}}),
    "claude document": lambda url: claude({"type": "document", "source": {"type": "url", "url": url}}),
    "gemini file": lambda url: gemini({"fileData": {"mimeType": "application/pdf", "fileUri": url}}),
    "gemini snake": lambda url: gemini({"file_data": {"mime_type": "application/pdf", "file_uri": url}}),
    "converse": lambda url: converse({"image": {"format": "png", "source": {"s3Location": {"uri": url}}}}),
}


@pytest.mark.parametrize("way", LINKED)
@pytest.mark.parametrize("url", [PICTURE, "http://localhost/a.pdf", "gs://bucket/a.pdf", "s3://bucket/a.png"])
def test_media_by_their_address_are_told(way, url):
    """What lies behind an address may change: it is stored only if that is asked for, by the address."""
    found = shown(*LINKED[way](url))
    assert found.refused == (REASON,)
    assert key(found) != key(shown(*LINKED[way](url + "x")))
    assert admissible("complete", found.refused, ()) == Refuse(REASON)
    assert admissible("complete", found.refused, {REASON}) == Store()


@pytest.mark.parametrize(
    ("path", "body", "host"),
    [
        chat({"type": "text", "text": f"See {PICTURE}"}),
        chat({"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}),
        claude({"type": "tool_use", "id": "t1", "name": "f", "input": {"url": PICTURE}}),
        ("/v2/chat", {"model": "m", "messages": HELLO, "documents": [{"data": {"url": PICTURE}}]}, "api.cohere.com"),
        (
            "/v2/chat",
            {
                "model": "m",
                "messages": [
                    {
                        "role": "tool",
                        "tool_call_id": "call-1",
                        "content": [{"type": "document", "document": {"data": {"url": PICTURE}}}],
                    }
                ],
            },
            "api.cohere.com",
        ),
        claude({"type": "search_result", "source": PICTURE, "title": "a", "content": [{"type": "text", "text": "b"}]}),
        gemini({"functionCall": {"name": "f", "args": {"url": PICTURE}}}),
        gemini({"functionResponse": {"name": "f", "response": {"url": PICTURE}}}),
        gemini({"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/abc"}}),
        responses({"type": "output_text", "text": "a", "annotations": [{"type": "url_citation", "url": PICTURE}]}),
    ],
)
def test_address_that_nobody_fetches_is_a_text(path, body, host):
    """What is said, cited or given to a tool is what it is; an uploaded file does not change behind its id."""
    assert shown(path, body, host).refused == ()


SIGNED = {
    "s3": "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a%2Fb&X-Amz-Date={n}&X-Amz-Expires=9&X-Amz-Signature={n}",
    "s3 token": "X-Amz-Security-Token={n}&X-Amz-Credential=a&X-Amz-Date={n}&X-Amz-Signature={n}",
    "s3 old": "AWSAccessKeyId=a&Signature={n}&Expires={n}",
    "gcs": "X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=a&X-Goog-Date={n}&X-Goog-Signature={n}",
    "gcs old": "GoogleAccessId=a&Expires={n}&Signature={n}",
    "azure": "sv=2024-11-04&st={n}&se={n}&sr=b&sp=r&spr=https&sig={n}%3D",
    "azure delegation": "skoid=a&sktid=b&skt={n}&ske={n}&sks=b&skv=2024&sv=2024&se={n}&sr=b&sp=r&sig={n}",
    "cloudfront": "Expires={n}&Signature={n}&Key-Pair-Id=K",
    "cloudfront policy": "Policy={n}&Signature={n}&Key-Pair-Id=K&Hash-Algorithm=SHA256",
    "oss": "OSSAccessKeyId=a&Expires={n}&Signature={n}",
}


@pytest.mark.parametrize("store", SIGNED)
@pytest.mark.parametrize("way", LINKED)
def test_signature_is_not_in_the_key(way, store):
    """A presigned address is signed anew in each run, and names the same thing."""
    first, second = (f"{PICTURE}?{SIGNED[store].format(n=n)}" for n in (1, 2))
    assert key(shown(*LINKED[way](first))) == key(shown(*LINKED[way](second))) == key(shown(*LINKED[way](PICTURE)))
    assert key(shown(*LINKED[way](first + "&versionId=3"))) != key(shown(*LINKED[way](first)))


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://a/b?x=1&sig=2", "https://a/b?x=1&sig=2"),
        ("https://a/b?se=1&sv=2", "https://a/b?se=1&sv=2"),
        ("https://a/b?Signature=1&Expires=2", "https://a/b?Signature=1&Expires=2"),
        ("https://a/b?y=1&X-Amz-Signature=2&z#f", "https://a/b?y=1&z#f"),
        ("https://a/b?", "https://a/b?"),
        ("https://a/b#?X-Amz-Signature=2", "https://a/b#?X-Amz-Signature=2"),
    ],
)
def test_only_what_signs_is_taken_out(url, kept):
    """A parameter counts as a signature's where the whole of a known signature is there."""
    assert unsigned(url) == kept


@pytest.mark.parametrize(
    ("prompt", "is_stateful"),
    [
        ({"id": "pmpt_1"}, True),
        ({"id": "pmpt_1", "version": None}, True),
        ({"id": "pmpt_1", "version": ""}, True),
        ({"id": "pmpt_1", "version": "2"}, False),
    ],
)
def test_prompt_without_a_version_may_change(prompt, is_stateful):
    """What a prompt template says is changed in a dashboard; a version of it stays."""
    assert ("stateful" in shown("/v1/responses", {**RESPONSES, "prompt": prompt}).refused) is is_stateful


FILES = {
    "chat": lambda i: chat({"type": "file", "file": {"file_id": i}}),
    "responses": lambda i: responses({"type": "input_file", "file_id": i}),
    "responses image": lambda i: responses({"type": "input_image", "file_id": i}),
    "claude": lambda i: claude({"type": "document", "source": {"type": "file", "file_id": i}}),
    "gemini": lambda i: gemini(
        {"fileData": {"fileUri": f"https://generativelanguage.googleapis.com/v1beta/files/{i}"}}
    ),
}


@pytest.mark.parametrize("way", FILES)
def test_known_id_counts_as_what_was_uploaded(way):
    """Two runs that upload the same file anew ask the same; other files and other origins are other questions."""
    path, body, host = FILES[way]("file-1")
    origins = Origins({}, "laptop")
    for n, digest in ((1, "sha256=a"), (2, "sha256=a"), (3, "sha256=b")):
        _, body, _ = FILES[way](f"file-{n}")
        name = f"https://generativelanguage.googleapis.com/v1beta/files/file-{n}" if way == "gemini" else f"file-{n}"
        origins.uploads.learn(call(path, body, host), name, digest)
    keys = [key(shown(path, FILES[way](f"file-{n}")[1], host, origins)) for n in (1, 2, 3, 4)]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3
    assert key(shown(path, FILES[way]("sha256=a")[1], host, origins)) != keys[0]
    elsewhere = "gateway.corp.internal"
    assert key(shown(path, FILES[way]("file-1")[1], elsewhere, origins)) == key(
        shown(path, FILES[way]("file-1")[1], elsewhere)
    )


def test_plain_chat_refers_to_nothing():
    """Nothing is looked for where nothing can be."""
    assert shown("/v1/chat/completions", {**CHAT, "messages": HELLO}).refused == ()


@pytest.mark.parametrize("kind", [[], {}, 1, None])
def test_a_part_of_a_kind_that_is_no_text_is_looked_through(kind):
    """What no server would understand is a model call all the same, and no error of ours."""
    body = {"model": "m", "messages": [{"role": "user", "content": [{"type": kind, "file": "https://x.example/a"}]}]}
    assert recognise(call("/v1/chat/completions", body), NOWHERE) is not None
