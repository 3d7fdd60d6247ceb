"""Several endpoints of one model: who is asked, and when another is."""

from __future__ import annotations

from collections import Counter

import pytest
import trio
from trio.testing import MockClock

from aicn.domain.inference import InferenceRequest, Kind
from aicn.domain.registration import Endpoint
from aicn.errors import Busy, EndpointDown, ModelFailed
from aicn.services.balancing import PASS_OVER_S, Balancer
from aicn.services.ports import Answer
from tests.fakes.answers import ScriptedAnswer

TRIO = [Endpoint("P", "M", f"http://127.0.0.1:{port}/") for port in (1, 2, 3)]
REQUEST = InferenceRequest("r", Kind.CHAT, "P", "M", b"{}", stream=False, deadline=1e9)


class Servers:
    """Fits `Endpoints`; `failing` maps URLs to what they raise."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.failing: dict[str, Exception] = {}

    async def open(self, endpoint: Endpoint, request: InferenceRequest) -> Answer:
        await trio.lowlevel.checkpoint()
        self.asked.append(endpoint.url)
        if endpoint.url in self.failing:
            raise self.failing[endpoint.url]
        return ScriptedAnswer([])

    async def probe(self, endpoint: Endpoint) -> None:
        raise NotImplementedError(endpoint)


async def test_equals_are_asked_in_turn() -> None:
    servers = Servers()
    balancer = Balancer(servers)
    for _ in range(30):
        _, leave = await balancer.open(TRIO, REQUEST)
        leave()
    assert Counter(servers.asked) == {endpoint.url: 10 for endpoint in TRIO}


async def test_the_one_with_the_fewest_answers_at_work_is_asked() -> None:
    servers = Servers()
    balancer = Balancer(servers)
    leaves = [(await balancer.open(TRIO, REQUEST))[1] for _ in range(9)]
    assert Counter(servers.asked) == {endpoint.url: 3 for endpoint in TRIO}
    freed = servers.asked[4]
    leaves[4]()
    for _ in range(5):  # the only one with two at work, each time
        leave = (await balancer.open(TRIO, REQUEST))[1]
        assert servers.asked[-1] == freed
        leave()


async def test_one_that_is_down_is_passed_over_for_a_while(autojump_clock: MockClock) -> None:
    servers = Servers()
    balancer = Balancer(servers)
    down = TRIO[0].url
    servers.failing[down] = EndpointDown("cannot connect")
    for _ in range(12):
        _, leave = await balancer.open(TRIO, REQUEST)
        leave()
    assert Counter(servers.asked)[down] == 1
    await trio.sleep(PASS_OVER_S + 0.1)
    servers.failing.clear()
    servers.asked.clear()
    for _ in range(12):
        _, leave = await balancer.open(TRIO, REQUEST)
        leave()
    assert Counter(servers.asked)[down] == 4


async def test_all_down_is_the_last_ones_failure_and_each_is_still_tried() -> None:
    servers = Servers()
    balancer = Balancer(servers)
    servers.failing = {endpoint.url: EndpointDown(endpoint.url) for endpoint in TRIO}
    for _ in range(2):
        servers.asked.clear()
        with pytest.raises(EndpointDown) as caught:
            await balancer.open(TRIO, REQUEST)
        assert caught.value.message == servers.asked[-1]
        assert sorted(servers.asked) == [endpoint.url for endpoint in TRIO]
    servers.failing.clear()
    await balancer.open(TRIO, REQUEST)  # passed over or not, there is nobody else


@pytest.mark.parametrize("error", [ModelFailed("status 500"), Busy("later")])
async def test_an_endpoint_that_took_the_request_is_not_followed_by_another(error: Exception) -> None:
    servers = Servers()
    balancer = Balancer(servers)
    servers.failing = {endpoint.url: error for endpoint in TRIO}
    with pytest.raises(type(error)):
        await balancer.open(TRIO, REQUEST)
    assert len(servers.asked) == 1
    servers.failing.clear()
    leaves = [(await balancer.open(TRIO, REQUEST))[1] for _ in range(6)]
    assert Counter(servers.asked[1:]) == {endpoint.url: 2 for endpoint in TRIO}  # the failure left nothing behind
    assert len(leaves) == 6
