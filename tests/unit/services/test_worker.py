"""What a worker does beside exchanges (those: tests/flow/test_exchange.py): probing endpoints."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from aicn.config.schema import Limits
from aicn.domain.registration import Endpoint
from aicn.errors import ModelFailed
from aicn.services.registration import Registration
from aicn.services.worker import Worker
from tests.fakes.answers import ScriptedEndpoints
from tests.fakes.stores import MemoryRegistrations

MANY = [Endpoint("P", f"m{number}", f"http://127.0.0.1:{number + 1}/") for number in range(200)]


class SlowEndpoints(ScriptedEndpoints):
    """Each probe takes 20 s."""

    def __init__(self) -> None:
        super().__init__(lambda _: [])
        self.at_once = self.most_at_once = 0

    async def probe(self, endpoint: Endpoint) -> None:
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            await trio.sleep(20)
            await super().probe(endpoint)
        finally:
            self.at_once -= 1


def a_worker(endpoints: ScriptedEndpoints) -> Worker:
    return Worker(Registration(MemoryRegistrations()), endpoints, Limits(), request_bytes=1000)


async def test_every_endpoint_that_fails_is_named_up_to_ten() -> None:
    endpoints = ScriptedEndpoints(lambda _: [])
    worker = a_worker(endpoints)
    await worker.probe(MANY)
    assert {endpoint.model for endpoint in endpoints.probed} == {endpoint.model for endpoint in MANY}
    endpoints.broken = {MANY[3].url, MANY[7].url}
    with pytest.raises(ModelFailed) as caught:
        await worker.probe(MANY)
    assert caught.value.message == "models[3].api: m3 does not work; models[7].api: m7 does not work"
    endpoints.broken = {endpoint.url for endpoint in MANY}
    with pytest.raises(ModelFailed, match=r"models\[9\].api: m9 does not work; and 190 more$"):
        await worker.probe(MANY)


async def test_slow_endpoints_are_asked_side_by_side_and_not_for_ever(autojump_clock: MockClock) -> None:
    endpoints = SlowEndpoints()
    started = trio.current_time()
    with pytest.raises(ModelFailed, match=r"api: was not asked in time; and \d+ more$"):
        await a_worker(endpoints).probe(MANY)
    assert trio.current_time() - started <= 45
    assert (endpoints.most_at_once, endpoints.at_once) == (64, 0)
    assert len(endpoints.probed) == 128
