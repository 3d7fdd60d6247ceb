"""Answers in the envelope of the v0 API, and without it."""

from __future__ import annotations

from quart import Response

from aicn.gateway.calls import json_answer
from aicn.wire.v0 import answers


def done() -> Response:
    """The answer of a call that has nothing to tell."""
    return json_answer(answers.encode_ok())


def data(value: object) -> Response:
    """The success envelope around `value`."""
    return json_answer(answers.encode_data(value))


def bare(value: object) -> Response:
    """`value` without the envelope, where spec 1 has none."""
    return json_answer(answers.encode_json(value))
