"""Where others may reach this node: what is announced in place of everything else, or interfaces, what was learnt, and relays."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from multiaddr import Multiaddr


class OwnAddresses:
    """The addresses that this node tells others, without its peer id."""

    def __init__(self, announce: Sequence[Multiaddr], interfaces: Callable[[], Sequence[Multiaddr]]) -> None:
        self._announce = tuple(announce)
        self._interfaces = interfaces  # where it listens
        self.circuits: Callable[[], Sequence[Multiaddr]] = tuple  # through relays
        self.learnt: Callable[[], Sequence[Multiaddr]] = tuple  # what peers and routers say of them

    def advertised(self) -> list[Multiaddr]:
        """All of them."""
        return [*self.direct(), *self.circuits()]

    def direct(self) -> list[Multiaddr]:
        """Those that do not lead through a relay."""
        return list(self._announce) or list(dict.fromkeys((*self.configured(), *self.learnt())))

    def configured(self) -> list[Multiaddr]:
        """Those for which nobody's word is needed: announced, or of our interfaces."""
        return list(self._announce or self._interfaces())
