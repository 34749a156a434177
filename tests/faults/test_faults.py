"""A few of the faults that `benchmarks/faults.py` injects: after each, nothing is lost."""

import json
import random
import sys
from pathlib import Path

import pytest

if not sys.platform.startswith("linux"):
    pytest.skip("forks, and reads /proc", allow_module_level=True)

import injections
from harness import Forge, damaged, differing, left_over, outcome, repeated_too_much, saved_steps
from victims import commands, make_material


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def forge(scratch):
    forge = Forge(scratch)
    yield forge
    forge.close()


@pytest.fixture(scope="module")
def material(forge, scratch):
    return make_material(forge, scratch / "material")


@pytest.fixture(scope="module")
def reference(forge, material, scratch):
    """Undisturbed runs, each made when first asked for."""
    made, known = {}, commands(material)

    def of(name: str) -> injections.Undisturbed:
        if name not in made:
            made[name] = injections.undisturbed(forge, known[name], scratch / f"undisturbed {name}")
        return made[name]

    return of


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("ssl pretrain", injections.kill),
        ("ssl pretrain", injections.interrupt),
        ("ssl pretrain", injections.two_at_once),
        ("train", injections.file_limit),
        ("nerf train", injections.kill),
    ],
)
def test_nothing_is_lost(forge, reference, scratch, name, fault):
    rng = random.Random(f"{name}/{fault.__name__}")
    verdict = fault(injections.Trial(forge, reference(name), scratch / "trial"), rng)
    assert not verdict.lost, verdict.said


class TestTheOracle:
    """It can say no."""

    def test_files_cut_short_are_seen(self, reference, scratch):
        reference("ssl pretrain")
        place = scratch / "undisturbed ssl pretrain"
        assert not damaged(place)
        whole = {}
        for file in (place / "out" / "result.json", place / "out" / "backbone.safetensors"):
            whole[file] = file.read_bytes()
            file.write_bytes(whole[file][:-9])
        found = damaged(place)
        for file, content in whole.items():
            file.write_bytes(content)
        assert len(found) == 2

    def test_a_bit_and_a_figure_are_seen(self, reference):
        left = reference("ssl pretrain").left
        name = "out/checkpoints"
        step, state = left[name]
        assert not differing(left, left | {name: (step, dict(state))})
        assert differing(left, left | {name: (step - 1, state)}) == [name]
        changed = json.loads(json.dumps(left["out/result.json"]))
        changed["final_loss"] += 1e-12
        assert differing(left, left | {"out/result.json": changed}) == ["out/result.json"]
        assert differing(left, {}) != []

    def test_steps_repeated_before_the_checkpoint_are_seen(self, tmp_path):
        (tmp_path / "checkpoints").mkdir()
        (tmp_path / "checkpoints" / "step-000000004.safetensors").write_bytes(b"")
        log = tmp_path / "metrics.jsonl"
        log.write_text('{"step": 5}\n')
        before = saved_steps(tmp_path)
        log.write_text('{"step": 5}\n{"step": 5}\n{"step": 6}\n')
        assert not repeated_too_much(before)
        log.write_text('{"step": 5}\n{"step": 1}\n')
        assert repeated_too_much(before) == [f"{tmp_path.name}: checkpoint at 4, went on with 1"]

    def test_left_overs_are_seen(self, tmp_path):
        Path(tmp_path / ".result.json.ab1.part.json").touch()
        assert len(left_over(tmp_path)) == 1
        assert outcome(tmp_path) == {}
