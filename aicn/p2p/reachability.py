"""Whether others can dial this node: what is known of it, who is told, and the line in the log."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from enum import Enum

log = logging.getLogger(__name__)


class State(Enum):
    UNKNOWN = "unknown"
    PUBLIC = "public"
    PRIVATE = "private"


class Reachability:
    """The one place that knows it. AutoNAT and the relay client report to it; DHT, relay client and the operator learn from it."""

    def __init__(self, listening: Callable[[], Sequence[str]]) -> None:
        self._listening = listening  # ports, for the advice in the log
        self._state = State.UNKNOWN
        self._address = ""  # where a peer has reached us, or where we believe that one can
        self._relays: tuple[str, ...] = ()
        self._listeners: list[Callable[[State], None]] = []
        self._said = ""

    @property
    def state(self) -> State:
        return self._state

    def on_change(self, listener: Callable[[State], None]) -> None:
        """Call `listener` whenever the state changes, and now. It must neither wait nor raise."""
        self._listeners.append(listener)
        listener(self._state)

    def set(self, state: State, address: str = "") -> None:
        """The state is `state` now; `address`: where this node can be reached, when that is public."""
        changed = state is not self._state
        self._state, self._address = state, address
        if changed:
            for listener in self._listeners:
                listener(state)
        self.say()

    def set_relays(self, relays: Sequence[str]) -> None:
        """The peer ids of the relays through which others reach this node now."""
        self._relays = tuple(relays)
        self.say()

    def describe(self) -> str:
        """The line for the operator."""
        if self._state is State.PUBLIC:
            return f"reachable: publicly at {self._address}"
        if self._relays:
            behind = " (behind NAT)" if self._state is State.PRIVATE else ""
            return f"reachable: through relay {', '.join(self._relays)}{behind}"
        ports = ", ".join(dict.fromkeys(self._listening()))
        if self._state is State.PRIVATE:
            advice = f"add p2p.relays or forward port {ports}" if ports else "add p2p.relays"
            return f"reachable: only by peers that this node dials; {advice}"
        where = f"at port {ports}" if ports else "nowhere, it does not listen"
        return f"reachable: {where}; no peer has said yet whether from outside"

    def say(self) -> None:
        """Log the line, unless it is the last one."""
        line = self.describe()
        if line != self._said:
            self._said = line
            log.info("%s", line)
