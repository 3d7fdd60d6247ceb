"""What the node says on standard error: one line, or one JSON object, per message. Prompts and answers are never part of it."""

from __future__ import annotations

import json
import logging
import time

from aicn.config.schema import Logging

# Libraries whose INFO is about their own affairs
_QUIET = ("libp2p", "hypercorn", "quart", "httpx", "httpcore", "multiaddr", "async_service", "asyncio")


class JsonFormatter(logging.Formatter):
    """{"time": RFC 3339 UTC, "level", "logger", "message"[, the `fields` of the record][, "traceback"]}."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry: dict[str, object] = {
            "time": f"{moment}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry |= getattr(record, "fields", {})  # of lines that programs read: logging's `extra`
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """12:34:56.789 INFO  aicn.services.worker: message."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03d %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S")


def set_up(config: Logging) -> None:
    """Send all logging to standard error as configured."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if config.format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(config.level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
