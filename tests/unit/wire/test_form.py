from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.formparser import parse_form_data
from werkzeug.test import EnvironBuilder

from aicn.domain.inference import MOST_PARTS, Part
from aicn.errors import AicnError, InvalidRequest, MalformedBody
from aicn.wire.form import decode_form, encode_form

CURL = "multipart/form-data; boundary=------------------------d74496d66958873e"  # as curl 8 writes it
CURL_BODY = (
    b'--------------------------d74496d66958873e\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na b\xc3\xa9ret\r\n'
    b'--------------------------d74496d66958873e\r\nContent-Disposition: form-data; name="image"; filename="o.png"\r\n'
    b"Content-Type: image/png\r\n\r\n\x89PNG\r\n--\r\n\r\n--------------------------d74496d66958873e--\r\n"
)
TEXTS = st.text(st.characters(exclude_characters='\\"%\r\n', exclude_categories=("Cs", "Cc", "Zl", "Zp")), max_size=40)
PARTS = st.builds(
    Part, TEXTS.filter(bool), TEXTS, st.sampled_from(["image/png", "application/octet-stream"]), st.binary(max_size=300)
)


def test_a_form_as_curl_sends_it() -> None:
    fields, files = decode_form(CURL_BODY, CURL)
    assert fields == {"prompt": "a béret"}
    assert files == (Part("image", "o.png", "image/png", b"\x89PNG\r\n--\r\n"),)


@given(st.dictionaries(TEXTS.filter(bool), st.text(max_size=200), max_size=8), st.lists(PARTS, max_size=MOST_PARTS))
def test_a_form_comes_back_as_it_was(fields: dict[str, str], files: list[Part]) -> None:
    fields = {name: text.encode(errors="replace").decode() for name, text in fields.items()}
    content_type, body = encode_form(fields, files)
    assert decode_form(body, content_type) == (fields, tuple(files))


def test_werkzeug_reads_what_is_written() -> None:
    """The other side of RFC 7578: a parser that many servers use."""
    part = Part("image", 'a "b".png', "image/png", bytes(range(256)))
    content_type, body = encode_form({"prompt": "x\r\n--y", "n": 2, "none": None, "list": [1]}, [part])
    environ = EnvironBuilder(method="POST", data=body, content_type=content_type).get_environ()
    _, form, files = parse_form_data(environ)
    assert form.to_dict() == {"prompt": "x\r\n--y", "n": "2", "list": "[1]"}
    file = files["image"]
    assert (file.read(), file.content_type) == (part.data, "image/png")
    file.close()


def test_what_werkzeug_writes_is_read() -> None:
    builder = EnvironBuilder(method="POST", data={"prompt": "é"})
    builder.files.add_file("image[]", io.BytesIO(b"\r\n\0"), filename="ü.png", content_type="image/webp")
    environ = builder.get_environ()
    body = environ["wsgi.input"].read()
    assert decode_form(body, environ["CONTENT_TYPE"]) == (
        {"prompt": "é"},
        (Part("image[]", "ü.png", "image/webp", b"\r\n\0"),),
    )


def test_names_cannot_break_out_of_their_header() -> None:
    part = Part('i"\r\nX: y', 'f"\r\n\r\n--', "text/plain\r\nX: y", b"data")
    content_type, body = encode_form({}, [part])
    assert body.count(b"\r\n") == 6  # boundary, disposition, type, blank line, data, last boundary
    fields, files = decode_form(body, content_type)
    assert fields == {}
    assert files == (Part(part.name, part.filename, "application/octet-stream", b"data"),)


@pytest.mark.parametrize(
    ("body", "content_type", "error", "what"),
    [
        (CURL_BODY, "multipart/form-data", MalformedBody, "boundary"),
        (CURL_BODY, "multipart/form-data; boundary=other", MalformedBody, "breaks off"),
        (CURL_BODY[:-30], CURL, MalformedBody, "breaks off"),
        (b"", CURL, MalformedBody, "breaks off"),
        (b"--B\r\nContent-Disposition: form-data\r\n\r\nx\r\n--B--", "m; boundary=B", MalformedBody, "head"),
        (b"--B\r\nno head at all\r\n--B--", "m; boundary=B", MalformedBody, "head"),
        (b"--Bjunk\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n--B--", "m; boundary=B", MalformedBody, "head"),
        (b"--B\r\nContent-Disposition: form-data; name=a\r\n\r\n\xff\r\n--B--", "m; boundary=B", InvalidRequest, "a: not UTF-8"),
        (b"--B\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n" * 2 + b"--B--", "m; boundary=B", InvalidRequest, "a: given twice"),
    ],
)  # fmt: skip
def test_what_is_no_form_is_refused(body: bytes, content_type: str, error: type[AicnError], what: str) -> None:
    with pytest.raises(error, match=what):
        decode_form(body, content_type)


def test_files_and_fields_are_counted() -> None:
    content_type, body = encode_form({}, [Part("image[]", "x", "image/png", b"")] * (MOST_PARTS + 1))
    with pytest.raises(InvalidRequest, match="18 files"):
        decode_form(body, content_type)
    image = Part("image[]", "x", "image/png", b"")
    content_type, body = encode_form({f"f{i}": "" for i in range(128)}, [image] * MOST_PARTS)
    fields, files = decode_form(body, content_type)
    assert (len(fields), len(files)) == (128, MOST_PARTS)
    content_type, body = encode_form({f"f{i}": "" for i in range(129)}, [image] * MOST_PARTS)
    with pytest.raises(InvalidRequest, match="more than"):
        decode_form(body, content_type)


@given(st.binary(max_size=400))
def test_noise_gives_one_of_our_errors(noise: bytes) -> None:
    for body in (noise, b"--B\r\n" + noise, b"--B\r\n" + noise + b"\r\n--B--"):
        try:
            fields, _ = decode_form(body, "multipart/form-data; boundary=B")
        except AicnError:
            continue
        members: dict[str, Any] = dict(fields)
        assert json.loads(json.dumps(members)) == members
