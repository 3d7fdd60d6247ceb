"""THE table of errors of the v0 API: which number of spec 1 and which HTTP status each kind of error has.

Numbers: 1001 wrong field, 1002 not JSON, 1003 protobuf, 1004 time-out, 1005 node not found, 1006 model, 1007 IPFS, 1009 not allowed,
1010 not supported, 1015 database, 1016 no node, 1017 streamed chat, 5000 internal. A client that asked for a stream gets 1017
where a plain one gets 1006; once a stream has begun every error is a 1017 event.
"""

from __future__ import annotations

import logging
from math import ceil
from typing import NamedTuple

from quart import Response
from werkzeug.exceptions import HTTPException

from aicn.errors import AicnError
from aicn.gateway.exchange import GatewayRequest
from aicn.wire.v0 import answers

log = logging.getLogger(__name__)

STREAM_BROKEN = 1017
NO_ROUTE = 1010  # "not supported": what a path or method that the node does not have comes to
RETRY_AFTER_S = 1.0  # advice of an error that brings none


class Row(NamedTuple):
    """How one kind of error is answered."""

    plain: int
    streamed: int
    status: int


INTERNAL = Row(5000, 5000, 500)
TABLE = {
    "invalid_request": Row(1001, 1001, 400),
    "malformed_body": Row(1002, 1002, 400),
    "unsupported_media_type": Row(1002, 1002, 415),
    "too_large": Row(1001, 1001, 413),
    "slow_body": Row(1004, 1004, 408),
    "forbidden": Row(1009, 1009, 403),
    "unauthorized": Row(1009, 1009, 401),
    "rate_limited": Row(1009, 1009, 429),
    "unsupported": Row(1010, 1010, 501),
    "unknown_node": Row(1005, 1005, 404),
    "unreachable": Row(1004, 1004, 504),
    "deadline_exceeded": Row(1004, 1004, 504),
    "unknown_model": Row(1006, 1017, 404),
    "model_failed": Row(1006, 1017, 502),
    "answer_broken": Row(1006, 1017, 502),
    "no_node": Row(1016, 1016, 503),
    "ipfs_failed": Row(1007, 1007, 502),
    "not_connected": Row(5000, 5000, 500),
    "busy": Row(1006, 1017, 503),
    "protocol_violation": Row(1003, 1003, 500),
    "storage": Row(1015, 1015, 500),
    "internal": INTERNAL,
}


def error_answer(error: Exception, request: GatewayRequest) -> Response:
    """The answer to a request that failed before its answer began. What is nobody's known error is logged and stays untold."""
    if isinstance(error, AicnError):
        row = TABLE.get(error.code, INTERNAL)
        request.error = error.code
        if row is INTERNAL:
            log.error("request %s failed", request.id, exc_info=error)
        response = _answer(row.streamed if request.streamed else row.plain, error.message, row.status)
        if row.status in (429, 503):
            response.headers["Retry-After"] = str(max(1, ceil(error.retry_after or RETRY_AFTER_S)))
        if row.status == 401:
            response.headers["WWW-Authenticate"] = "Bearer"
        return response
    if isinstance(error, HTTPException) and error.code is not None:  # routing: 404, 405
        request.error = "no_route"
        response = _answer(NO_ROUTE, f"{request.method} {request.path[:200]}: {error.name}", error.code)
        response.headers.extend(h for h in error.get_headers() if h[0] == "Allow")
        return response
    request.error = "internal"
    log.error("request %s failed", request.id, exc_info=error)
    return _answer(INTERNAL.plain, f"internal error; the node's log has request id {request.id}", INTERNAL.status)


def error_event(error: AicnError) -> bytes:
    """The last event of a stream that broke."""
    return answers.encode_error_event(STREAM_BROKEN, error.message, error.usage)


def _answer(code: int, message: str, status: int) -> Response:
    return Response(answers.encode_error(code, message), status, content_type="application/json")
