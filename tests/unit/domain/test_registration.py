"""What may be registered as an endpoint's URL."""

import pytest

from aicn.domain.registration import check_url
from aicn.errors import InvalidRequest


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1088/v1/chat/completions",
        "HTTPS://Models.example/v1?key=a%20b&x=",
        "http://[::1]:80",
        "http://[fe80::1%eth0]:80/",
        "http://user:pass%40word@host/",
        "http://under_score:1/",
    ],
)
def test_good_urls(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        None,
        7,
        "",
        "v1/chat",
        "//host/path",
        "file:///etc/passwd",
        "ftp://host/",
        "javascript:alert(1)",
        "http://",
        "http:///path",
        "http://:80/",
        "http://user:secret@/",
        "http://host:0/",
        "http://host:65536/",
        "http://user:secret",
        "http://[::1/",
        "http://[1]/",
        "http://a..b/",
        f"http://{'a' * 64}.example/",
        "http://host/a b",
        "http://host/\r\nX-Injected: 1",
        "http://host/ä",
        "http://host/#",
        "http://host/?q#part",
        "http://host/" + "a" * 2048,
    ],
)
def test_urls_that_are_refused(url: object) -> None:
    with pytest.raises(InvalidRequest, match=r"^url: ") as caught:
        check_url(url)
    assert "secret" not in caught.value.message
    assert "\n" not in caught.value.message
