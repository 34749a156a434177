"""What `nerf render` makes of its options, without a run: a stand-in notes what it is asked."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

import nndl_suite
from nndl_suite.cli.nerf import app


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict:
    seen: dict = {}

    def render_path(kind: str, out: Path, **options: object) -> None:
        seen.update(options, kind=kind, out=out)

    opened = SimpleNamespace(open=lambda _run, device: SimpleNamespace(render_path=render_path))
    monkeypatch.setattr(nndl_suite, "ColmapNerfReconstructor", opened, raising=False)
    return seen


def render(*options: str):
    return CliRunner().invoke(app, ["render", "run", "--out", "a.mp4", *options])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), {"kind": "orbit", "fps": None, "size": None, "what": "rgb", "quality": "full"}),
        (("--fps", "30000/1001"), {"fps": 30000 / 1001}),
        (("--fps", "29.97"), {"fps": 29.97}),
        (("--size", "1280x720"), {"size": (1280, 720)}),
        (("--height", "720"), {"size": 720}),
        (("--preview", "--what", "depth"), {"quality": "preview", "what": "depth"}),
        (("--path", "p.json", "--save-path", "q.json"), {"kind": "p.json", "save_path": Path("q.json")}),
    ],
)
def test_options_reach_the_reconstructor(asked: dict, options: tuple[str, ...], expected: dict):
    assert render(*options).exit_code == 0
    assert {name: asked[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--fps", "fast"), "30000/1001"),
        (("--fps", "1/0"), "30000/1001"),
        (("--size", "720"), "1280x720"),
        (("--size", "64x48", "--height", "48"), "one of them"),
        (("--what", "depths"), "depth"),
    ],
)
def test_options_that_say_nothing_are_wrong_usage(asked: dict, options: tuple[str, ...], told: str):
    result = render(*options)
    assert result.exit_code == 2
    assert told in result.output
    assert not asked
