from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from tests.fakes.api import ME, FakeApi
from tests.fakes.png import draw_png

Aicn = Callable[..., Result]


@pytest.fixture
def painter(api: FakeApi) -> FakeApi:
    api.projects[ME] = [{"project": "P", "models": ["words", "draws"]}]
    api.drawn = [{"url": f"data:image/png;base64,{base64.b64encode(draw_png(number)).decode()}"} for number in range(2)]
    return api


def test_images_become_files(aicn: Aicn, painter: FakeApi, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    options = ("--model", "draws", "--count", "2", "--size", "64x32", "--output", str(folder), "--api", painter.url)
    result = aicn("image", "a bird", *options)
    assert result.exit_code == 0
    files = [Path(line) for line in result.stdout.splitlines()]
    assert [file.read_bytes() for file in files] == [draw_png(0), draw_png(1)]
    assert {(file.parent, file.suffix) for file in files} == {(folder, ".png")}
    asked = {"node_id": ME, "project": "P", "model": "draws", "prompt": "a bird", "n": 2, "width": 64, "height": 32}
    assert painter.requests[-1] == ("/api/v0/image/gen", asked | {"response_format": "url"})
    assert "P / draws" in result.stderr
    again = json.loads(aicn("image", "a bird", *options, "--json").stdout)
    assert again["model"] == "draws"
    assert not {Path(image["file"]) for image in again["images"]} & set(files)


def test_images_stay_in_ipfs(aicn: Aicn, painter: FakeApi) -> None:
    painter.drawn = [{"cid": "Qm1", "image_name": "a\x1b[2J.png"}]
    result = aicn("image", "a bird", "--model", "draws", "--ipfs", "--api", painter.url)
    assert result.stdout == "Qm1\ta\N{REPLACEMENT CHARACTER}[2J.png\n"
    assert "response_format" not in painter.requests[-1][1]
    shown = aicn("image", "a bird", "--model", "draws", "--ipfs", "--api", painter.url, "--json").stdout
    assert json.loads(shown)["images"] == painter.drawn


@pytest.mark.parametrize(
    "drawn",
    [
        ["x"],
        [{}],
        [{"url": "http://x/1.png"}],
        [{"url": "data:image/../../x;base64,AAAA"}],
        [{"url": "data:image/svg+xml;base64,AAAA"}],
        [{"url": 7}],
    ],
)
def test_what_is_no_image_is_not_saved(aicn: Aicn, painter: FakeApi, tmp_path: Path, drawn: list[object]) -> None:
    painter.drawn = drawn
    result = aicn("image", "a bird", "--model", "draws", "--output", str(tmp_path), "--api", painter.url)
    assert (result.exit_code, list(tmp_path.iterdir())) == (1, [])
    assert result.stderr.startswith("Error: the node answered something that is no ")


def test_refusals_and_wrong_options(aicn: Aicn, painter: FakeApi, tmp_path: Path) -> None:
    assert aicn("image", "a bird").exit_code == 2
    assert aicn("image", "a bird", "--model", "draws", "--size", "large").exit_code == 2
    assert aicn("image", "a bird", "--model", "draws", "--count", "11").exit_code == 2
    result = aicn("image", "a bird", "--model", "other", "--api", painter.url)
    assert "model other" in result.stderr
    (tmp_path / "file").touch()
    result = aicn("image", "a bird", "--model", "draws", "--output", str(tmp_path / "file" / "x"), "--api", painter.url)
    assert result.exit_code == 1
    assert "Not a directory" in result.stderr
    painter.refuse["/api/v0/image/gen"] = (502, {"code": 1007, "message": "the IPFS node refuses"})
    result = aicn("image", "a bird", "--model", "draws", "--ipfs", "--api", painter.url)
    assert result.stderr == "Error: the IPFS node refuses (code 1007)\n"
