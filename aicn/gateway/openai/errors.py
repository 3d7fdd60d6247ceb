"""THE table of errors of `/v1`: which HTTP status, type and code of OpenAI's API each kind of error has.

OpenAI's clients try again by themselves, after `Retry-After`, on 408, 409, 429 and everything from 500 on: what is the caller's own
fault has none of these, but a body that came too slowly. Once a stream has begun every error is an event of the same form, and no
`[DONE]` follows it.
"""

from __future__ import annotations

import logging
import re
from math import ceil
from typing import NamedTuple

from quart import Response
from werkzeug.exceptions import HTTPException

from aicn.errors import AicnError, InternalError
from aicn.gateway.exchange import GatewayRequest
from aicn.wire.openai import answers

log = logging.getLogger(__name__)

RETRY_AFTER_S = 1.0  # advice of an error that brings none
_FIELD = re.compile(r"([A-Za-z_][\w.\[\]]{0,63}): ")  # how messages about a field of the request begin


class Row(NamedTuple):
    """How one kind of error is answered."""

    status: int
    type: str
    code: str


_INVALID, _SERVER = "invalid_request_error", "server_error"
INTERNAL = Row(500, _SERVER, "internal_error")
TABLE = {
    "invalid_request": Row(400, _INVALID, "invalid_request"),
    "malformed_body": Row(400, _INVALID, "malformed_body"),
    "unsupported_media_type": Row(415, _INVALID, "unsupported_media_type"),
    "too_large": Row(413, _INVALID, "request_too_large"),
    "slow_body": Row(408, _INVALID, "slow_body"),
    "forbidden": Row(403, "permission_error", "forbidden"),
    "unauthorized": Row(401, _INVALID, "invalid_api_key"),
    "rate_limited": Row(429, "rate_limit_error", "rate_limit_exceeded"),
    "unsupported": Row(502, _SERVER, "unsupported"),
    "unknown_node": Row(502, _SERVER, "node_unreachable"),
    "unreachable": Row(504, _SERVER, "node_unreachable"),
    "deadline_exceeded": Row(504, _SERVER, "deadline_exceeded"),
    "unknown_model": Row(404, _INVALID, "model_not_found"),
    "model_failed": Row(502, _SERVER, "model_failed"),
    "answer_broken": Row(502, _SERVER, "answer_broken"),
    "no_node": Row(503, _SERVER, "no_node"),
    "ipfs_failed": Row(502, _SERVER, "ipfs_failed"),
    "not_connected": INTERNAL,
    "busy": Row(503, "overloaded_error", "busy"),
    "protocol_violation": Row(502, _SERVER, "protocol_violation"),
    "storage": Row(500, _SERVER, "storage"),
    "internal": INTERNAL,
}


def error_answer(error: Exception, request: GatewayRequest) -> Response:
    """The answer to a request that failed before its answer began. What is nobody's known error is logged and stays untold."""
    if isinstance(error, HTTPException) and error.code is not None:  # routing: 404, 405
        request.error = "no_route"
        text = f"{request.method} {request.path[:200]}: {error.name}"
        response = _answer(Row(error.code, _INVALID, "unknown_url"), text, None, request)
        response.headers.extend(header for header in error.get_headers() if header[0] == "Allow")
        return response
    if not isinstance(error, AicnError):
        log.error("request %s failed", request.id, exc_info=error)
        error = InternalError("internal error; the node's log has the request id")
    row = TABLE.get(error.code, INTERNAL)
    request.error = error.code
    response = _answer(row, error.message, _param(error, row), request)
    if row.status in (429, 503):
        response.headers["Retry-After"] = str(max(1, ceil(error.retry_after or RETRY_AFTER_S)))
    if row.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def error_event(error: AicnError, request: GatewayRequest) -> bytes:
    """The last event of a stream that broke."""
    row = TABLE.get(error.code, INTERNAL)
    return answers.encode_error_event(
        error.message,
        kind=row.type,
        param=_param(error, row),
        code=row.code,
        request_id=request.id,
        usage=error.usage,
    )


def _answer(row: Row, message: str, param: str | None, request: GatewayRequest) -> Response:
    body = answers.encode_error(message, kind=row.type, param=param, code=row.code, request_id=request.id)
    return Response(body, row.status, content_type="application/json")


def _param(error: AicnError, row: Row) -> str | None:
    """The field of the request that the message names; None when it names none. For people: nothing is decided by it."""
    match = _FIELD.match(error.message) if row.type == _INVALID else None
    return match[1] if match is not None else None
