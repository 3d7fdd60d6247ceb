"""A port of the router for this node (UPnP Internet Gateway Device), asked for in the background.

With miniupnpc, which libp2p brings along. Its calls block, so they run in a thread that may be left behind: a router that does not
answer delays neither start nor stop.
"""

from __future__ import annotations

import importlib
import ipaddress
import logging
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Protocol, TypeVar

import trio
from multiaddr import Multiaddr

T = TypeVar("T")
log = logging.getLogger(__name__)

LEASE_S = 3600  # a node that was killed leaves its mapping for no longer
RENEW_S = 1200.0  # twice before it ends
RETRY_S = 900.0  # there may be another router by then: the machine is a laptop
_CALL_S = 20.0  # one look for a router and all that is asked of it
_REMOVE_S = 1.0  # at the end; what is not removed by then runs out
_SEARCH_MS = 2000  # how long routers may take to answer
_TRIES = 3  # external ports; the first one is our own
_DESCRIPTION = "aicn"


class Gateway(Protocol):
    """A router. Calls block, for seconds; OSError when it does not do what it is asked."""

    def external_ip(self) -> str: ...

    def add(self, port: int, external: int, lease_s: int) -> None: ...

    def remove(self, external: int) -> None: ...


class Igd:
    """A router that speaks UPnP."""

    def __init__(self, url: str = "") -> None:
        """Find it, or take the one whose description is at `url`. OSError: there is none."""
        try:
            library: Any = importlib.import_module("miniupnpc")
        except ImportError as error:
            raise OSError(str(error)) from None
        self._upnp = library.UPnP()
        self._upnp.discoverdelay = _SEARCH_MS
        if url:
            self._call(self._upnp.selectigd, url)
        else:
            with suppress(OSError):  # raised also when it went well; the next call knows
                self._call(self._upnp.discover)
            self._call(self._upnp.selectigd)

    def external_ip(self) -> str:
        return str(self._call(self._upnp.externalipaddress))

    def add(self, port: int, external: int, lease_s: int) -> None:
        own = self._upnp.lanaddr
        self._call(self._upnp.addportmapping, external, "TCP", own, port, _DESCRIPTION, "", lease_s)

    def remove(self, external: int) -> None:
        self._call(self._upnp.deleteportmapping, external, "TCP")

    @staticmethod
    def _call(function: Callable[..., Any], *args: object) -> Any:
        try:
            return function(*args)
        except Exception as error:  # noqa: BLE001 - the library knows no other type
            raise OSError(str(error)) from None


class PortMapping:
    """Keeps ports of the router mapped to ours. `ports`: those we listen on; none while no router is needed."""

    def __init__(
        self,
        ports: Callable[[], Sequence[int]],
        changed: Callable[[], None],
        *,
        find: Callable[[], Gateway] = Igd,
    ) -> None:
        self._ports = ports
        self._changed = changed
        self._find = find
        self._thread = trio.CapacityLimiter(1)  # one question at a time, also after one that was left behind
        self._gateway: Gateway | None = None
        self._external: dict[int, int] = {}  # the router's port of each of ours
        self._addresses: list[Multiaddr] = []

    def addresses(self) -> list[Multiaddr]:
        """Where the router listens for us."""
        return self._addresses

    async def run(self) -> None:
        """Keep the ports mapped until cancelled; then give them back."""
        try:
            while True:
                ports = list(self._ports())
                mapped = await self._within(_CALL_S, partial(self._map, ports)) if ports else None
                addresses = mapped or []
                if addresses != self._addresses:
                    self._addresses = addresses
                    self._changed()
                await trio.sleep((RENEW_S if addresses else RETRY_S) * random.uniform(0.9, 1.0))  # noqa: S311 - jitter
        finally:
            if self._external:
                with trio.CancelScope(shield=True):
                    await self._within(_REMOVE_S, self._unmap)

    async def _within(self, seconds: float, function: Callable[[], T]) -> T | None:
        """What `function` returns, from its thread; None when it fails or takes longer."""
        with trio.move_on_after(seconds):
            try:
                return await trio.to_thread.run_sync(function, limiter=self._thread, abandon_on_cancel=True)
            except OSError as error:
                log.debug("UPnP: %s", error)
                self._gateway = None
        return None

    def _map(self, ports: Sequence[int]) -> list[Multiaddr]:
        """In the thread: map all ports. The addresses at which the whole internet reaches them. OSError."""
        gateway = self._gateway = self._gateway or self._find()
        for port in ports:
            self._external[port] = self._add(gateway, port)
        ip = ipaddress.ip_address(gateway.external_ip())
        if not ip.is_global:
            log.debug("UPnP: the router is itself behind another, at %s", ip)
            return []
        return [Multiaddr(f"/ip{ip.version}/{ip}/tcp/{self._external[port]}") for port in ports]

    def _add(self, gateway: Gateway, port: int) -> int:
        """Map one port; the router's. OSError when it gives none."""
        others = (random.randint(20_000, 60_000) for _ in range(_TRIES))  # noqa: S311 - no secret
        wanted = [self._external.get(port, port), *others][:_TRIES]
        for external in wanted[:-1]:
            try:
                gateway.add(port, external, LEASE_S)
            except OSError as error:
                log.debug("UPnP: port %d: %s", external, error)
            else:
                return external
        gateway.add(port, wanted[-1], LEASE_S)
        return wanted[-1]

    def _unmap(self) -> None:
        if self._gateway is not None:
            for external in self._external.values():
                self._gateway.remove(external)
