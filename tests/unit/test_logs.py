"""Lines of the log, for people and for programs."""

from __future__ import annotations

import json
import logging
import sys

from aicn.logs import JsonFormatter, TextFormatter


def a_record(**more: object) -> logging.LogRecord:
    record = logging.LogRecord("aicn.x", logging.INFO, __file__, 1, "%s is %d", ("it", 7), None)
    record.created, record.msecs = 1_700_000_000.25, 250.0
    for name, value in more.items():
        setattr(record, name, value)
    return record


def test_json() -> None:
    assert json.loads(JsonFormatter().format(a_record())) == {
        "time": "2023-11-14T22:13:20.250Z", "level": "info", "logger": "aicn.x", "message": "it is 7"
    }  # fmt: skip


def test_json_with_fields() -> None:
    entry = json.loads(JsonFormatter().format(a_record(fields={"id": "a", "error": "busy"})))
    assert (entry["id"], entry["error"], entry["message"]) == ("a", "busy", "it is 7")


def test_json_with_a_traceback() -> None:
    try:
        raise ValueError("no")
    except ValueError:
        record = a_record(exc_info=sys.exc_info(), fields={"error": "internal"})
    entry = json.loads(JsonFormatter().format(record))
    assert entry["error"] == "internal"
    assert entry["traceback"].endswith("ValueError: no")


def test_text_has_no_fields() -> None:
    assert TextFormatter().format(a_record(fields={"id": "a"})).endswith("INFO    aicn.x: it is 7")
