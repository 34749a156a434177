import json
import sys
from types import ModuleType

import pytest

from nndl_suite.errors import ConfigError
from nndl_suite.logs import TensorBoard, Trackio, Wandb, pass_on
from nndl_suite.training.runs import open_run


@pytest.fixture
def run(tmp_path):
    run = open_run(tmp_path / "runs" / "cmp", kind="comparison", settings={"epochs": 3}, resume=False)
    arm = open_run(run.path / "arms" / "vit-seed0", kind="arm", settings={}, resume=False)
    run.log({"step": 20, "seconds": 1.5, "loss": 2.0})
    run.log({"step": 40, "seconds": 3.0, "loss": 1.0, "val_accuracy": 0.5})
    arm.log({"step": 10, "seconds": 1.0, "loss": 4.0})
    return run


def scalars(folder):
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = loader.EventAccumulator(str(folder))
    found.Reload()
    return {tag: [(one.step, one.value) for one in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_event_files_hold_each_figure_of_each_step(run):
    pytest.importorskip("tensorboard")
    assert pass_on(run.path, TensorBoard) == 3
    assert scalars(run.path) == {
        "loss": [(20, 2.0), (40, 1.0)],
        "seconds": [(20, 1.5), (40, 3.0)],
        "val_accuracy": [(40, 0.5)],
    }
    assert scalars(run.path / "arms" / "vit-seed0")["loss"] == [(10, 4.0)]


def test_relative_time_in_tensorboard_is_training_time(run):
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    pass_on(run.path, TensorBoard)
    found = loader.EventAccumulator(str(run.path))
    found.Reload()
    first, second = (one.wall_time for one in found.Scalars("loss"))
    assert second - first == pytest.approx(1.5)
    assert first - (run.path / "config.json").stat().st_mtime == pytest.approx(1.5, abs=0.01)


def test_written_again_they_hold_each_step_once(run):
    pytest.importorskip("tensorboard")
    (run.path / "events.out.tfevents.1.else").write_bytes(b"")  # somebody else's
    pass_on(run.path, TensorBoard)
    run.log({"step": 40, "seconds": 3.5, "loss": 0.9})  # a kill and --resume
    pass_on(run.path, TensorBoard)
    (run.path / "events.out.tfevents.1.else").unlink()
    assert scalars(run.path)["loss"] == [(20, 2.0), (40, pytest.approx(0.9))]
    assert len(list(run.path.glob("events.out.tfevents.*"))) == 1


@pytest.mark.parametrize(
    ("sink", "module", "said"),
    [
        (TensorBoard, "torch.utils.tensorboard", r"nndl-suite\[tensorboard\]"),
        (Wandb, "wandb", r"nndl-suite\[wandb\]"),
        (Trackio, "trackio", r"nndl-suite\[trackio\]"),
    ],
)
def test_what_is_not_installed_is_one_sentence_with_its_cure(run, monkeypatch, sink, module, said):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=said):
        pass_on(run.path, sink)


class TheirRun:
    def __init__(self, settings):
        self.settings, self.rows, self.finished = settings, [], 0

    def log(self, metrics, step=None):
        assert not self.finished
        self.rows.append((step, metrics))

    def finish(self):
        self.finished += 1


@pytest.fixture(params=["wandb", "trackio"])
def service(request, monkeypatch):
    """A module with the functions of theirs that are used, by their names."""
    module, opened = ModuleType(request.param), []

    def init(*, project, name, config, resume, **more):
        assert set(more) <= ({"id", "reinit"} if request.param == "wandb" else set())
        opened.append(TheirRun({"project": project, "name": name, "config": config, "resume": resume, **more}))
        return opened[-1]

    module.init = init
    monkeypatch.setitem(sys.modules, request.param, module)
    return {"wandb": Wandb, "trackio": Trackio}[request.param], opened


def test_a_service_gets_a_run_for_each_log_with_its_settings(run, service):
    sink, opened = service
    pass_on(run.path, sink)
    by_name = {one.settings["name"]: one for one in opened}
    assert set(by_name) == {"cmp", "cmp/arms/vit-seed0"}
    whole = by_name["cmp"]
    assert whole.rows == [
        (20, {"seconds": 1.5, "loss": 2.0}),
        (40, {"seconds": 3.0, "loss": 1.0, "val_accuracy": 0.5}),
    ]
    assert whole.settings["config"]["settings"] == {"epochs": 3}
    assert whole.settings["resume"] == "allow"
    assert all(one.finished == 1 for one in opened)


def test_a_resumed_run_sends_each_step_once_and_to_the_same_run(run, service):
    sink, opened = service
    pass_on(run.path, sink)
    run.log({"step": 40, "seconds": 3.5, "loss": 0.9})  # repeated after a kill
    run.log({"step": 60, "seconds": 4.5, "loss": 0.8})
    pass_on(run.path, sink)
    assert [step for one in opened if one.settings["name"] == "cmp" for step, _ in one.rows] == [20, 40, 60]
    assert len({one.settings.get("id") for one in opened if one.settings["name"] == "cmp"}) == 1
    assert json.loads(next(run.path.glob(".*.json")).read_text()) == {"": 60, "arms/vit-seed0": 10}
