"""multipart/form-data (RFC 7578), both ways: forms of clients, and forms for model endpoints that expect one.

Read whole, not piece by piece: its body is bounded and held anyway, and finding the boundaries costs a fraction of what a streaming
parser does.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from aicn.domain.inference import MOST_PARTS, Part
from aicn.errors import InvalidRequest, MalformedBody

FORM_TYPE = "multipart/form-data"
_MOST_FIELDS = 128  # beside the files; OpenAI's calls have a dozen
_HEAD_BYTES = 8192  # of one part's header lines
_LONGEST_NAME = 256  # characters of a field's or file's name; longer file names are cut
_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"]{1,70})"|([^\s";]{1,70}))', re.IGNORECASE)  # RFC 2046 section 5.1.1
_PARAMETER = re.compile(r';\s*(name|filename)=(?:"((?:[^"\\]|\\.)*)"|([^\s";]+))', re.IGNORECASE)
_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]{1,127}/[\w!#$&^.+-]{1,127}", re.ASCII)
_OCTETS = "application/octet-stream"


def decode_form(body: bytes, content_type: str) -> tuple[dict[str, str], tuple[Part, ...]]:
    """The text fields and the files of a form. MalformedBody; InvalidRequest for a field given twice or too many of them."""
    match = _BOUNDARY.search(content_type)
    if match is None:
        raise MalformedBody("the body is no form: its Content-Type names no boundary")
    delimiter = b"\r\n--" + (match[1] or match[2]).encode("latin-1", "replace")
    most = MOST_PARTS + _MOST_FIELDS
    _, *pieces = (b"\r\n" + body).split(delimiter, most + 1)  # before the first delimiter stands what nobody reads
    fields: dict[str, str] = {}
    files: list[Part] = []
    for number, piece in enumerate(pieces):
        if piece.startswith(b"--"):
            break
        if number == most:
            raise InvalidRequest(f"the form has more than {MOST_PARTS} files and {_MOST_FIELDS} fields")
        name, filename, kind, data = _part(piece)
        if filename is not None:
            files.append(Part(name, filename, kind, data))
        elif name in fields:
            raise InvalidRequest(f"{name[:64]}: given twice")
        else:
            fields[name] = _text(data, name)
    else:
        raise MalformedBody("the form breaks off: its last boundary is missing")
    if len(files) > MOST_PARTS:
        raise InvalidRequest(f"the form has {len(files)} files; at most {MOST_PARTS} are allowed")
    return fields, tuple(files)


def encode_form(members: Mapping[str, Any], parts: Sequence[Part]) -> tuple[str, bytes]:
    """Content type and body of a form: texts as they are, other values as JSON, null left out, then the files."""
    boundary = secrets.token_hex(16)  # nobody can have put it into a file
    pieces: list[bytes] = []
    for name, value in members.items():
        if value is not None:
            text = value if isinstance(value, str) else json.dumps(value)
            pieces.append(f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(name)}"\r\n\r\n'.encode())
            pieces.append(text.encode(errors="replace") + b"\r\n")
    for part in parts:
        kind = part.content_type if _MEDIA_TYPE.fullmatch(part.content_type) else _OCTETS
        disposition = f'form-data; name="{_quoted(part.name)}"; filename="{_quoted(part.filename)}"'
        head = f"--{boundary}\r\nContent-Disposition: {disposition}\r\nContent-Type: {kind}\r\n\r\n"
        pieces += [head.encode(errors="replace"), part.data, b"\r\n"]
    pieces.append(f"--{boundary}--\r\n".encode())
    return f"{FORM_TYPE}; boundary={boundary}", b"".join(pieces)


def _part(piece: bytes) -> tuple[str, str | None, str, bytes]:
    """Name, file name (None: a text field), media type and content of what stands between two delimiters."""
    start = piece.find(b"\r\n")  # after the delimiter's own line
    end = piece.find(b"\r\n\r\n", start, start + _HEAD_BYTES)
    if start < 0 or end < 0 or piece[:start].strip(b" \t"):
        _malformed()
    name = filename = None
    kind = _OCTETS
    for line in piece[start:end].decode("utf-8", "replace").split("\r\n"):
        header, _, value = line.partition(":")
        match header.strip().lower():
            case "content-disposition":
                parameters = {m[1].lower(): _unquoted(m) for m in _PARAMETER.finditer(value)}
                name, filename = parameters.get("name"), parameters.get("filename")
            case "content-type":
                given = value.partition(";")[0].strip()
                kind = given if _MEDIA_TYPE.fullmatch(given) else _OCTETS
    if name is None or not 0 < len(name) <= _LONGEST_NAME:
        _malformed()
    return name, None if filename is None else filename[-_LONGEST_NAME:], kind, piece[end + 4 :]


def _malformed() -> NoReturn:
    raise MalformedBody("the form has a part whose head does not parse")


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InvalidRequest(f"{name[:64]}: not UTF-8") from None


def _quoted(name: str) -> str:
    """As browsers write names: quotes and line breaks percent-encoded (HTML standard, multipart/form-data encoding)."""
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _unquoted(match: re.Match[str]) -> str:
    if match[3] is not None:
        return match[3]
    return re.sub(r'\\(["\\])', r"\1", match[2]).replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")
