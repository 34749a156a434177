"""How the ladder is climbed, with COLMAP's own work replaced; in a process of its own, as pycolmap wants it."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from typing import Any

import pytest

from nndl_suite.nerf.colmap_request import EstimateRequest

REQUEST = EstimateRequest(
    images="images",
    masks=None,
    groups=(tuple(f"{n}.jpg" for n in range(10)),),
    database="database.db",
    model="sparse/0",
    camera_model="OPENCV",
    shared_camera=True,
    max_image_size=960,
    photo_side=1920,
    max_features=3000,
    first_octave=0,
    matcher="sequential",
    widest_matcher="exhaustive",
    overlap=15,
    mapper="incremental",
    enough=0.8,
    seed=0,
    threads=-1,
)

# Each way places as many photos as the test says, out of as many as its matches connect.
CLIMB = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
from nndl_suite.nerf import colmap_estimate
from nndl_suite.nerf.diagnosis import MatchFacts
sent, placed, connected = json.load(sys.stdin)
did = []
def model(count):
    images = {n: SimpleNamespace(name=f"{n}.jpg", has_pose=n < count) for n in range(10)}
    return SimpleNamespace(images=images, compute_mean_reprojection_error=lambda: 0.5, num_points3D=lambda: 99)
class Work:
    def __init__(self, request, report):
        self.label = ""
    def extract(self, features):
        did.append(f"extract {features}")
        return Path(features)
    def match(self, database, matcher):
        did.append(f"match {matcher}")
        self.matched = f"{database} {matcher}"
    def map(self, database, mapper, start):
        did.append(f"map {mapper} {start}" + self.label)
        count = placed.get(f"{database} {self.matched.split()[1]} {mapper} {start}", 0)
        return [model(count)] if count else []
def facts(database, request):
    names = [f"{n}.jpg" for n in range(connected[str(database)])]
    return MatchFacts(features={f"{n}.jpg": 9 for n in range(10)}, pairs=tuple(zip(names, names[1:])))
colmap_estimate._Work, colmap_estimate._facts = Work, facts
colmap_estimate._write_model = lambda best, folder: did.append("write")
answer = colmap_estimate.estimate(sent, lambda *step: None)
print(json.dumps([did, answer["tries"], answer["rung"], len(answer["registered"])]))
"""


def climb(placed: dict[str, int], connected: dict[str, int], request: EstimateRequest = REQUEST) -> list[Any]:
    sent = {**asdict(request), "groups": [list(group) for group in request.groups]}
    done = subprocess.run(
        [sys.executable, "-c", CLIMB], input=json.dumps([sent, placed, connected]), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.colmap
def test_it_stops_at_the_first_way_that_places_enough() -> None:
    did, tries, rung, count = climb({"asked sequential incremental strict": 8}, {"asked": 10})
    assert did == ["extract asked", "match sequential", "map incremental strict", "write"]
    assert tries == [{"name": "as asked", "matcher": "sequential", "mapper": "incremental", "registered": 8}]
    assert (rung, count) == ("as asked", 8)


@pytest.mark.colmap
def test_it_tries_every_way_and_keeps_the_best() -> None:
    placed = {
        "asked sequential incremental strict": 4,
        "asked sequential global strict": 3,
        "asked exhaustive incremental strict": 6,
        "more exhaustive incremental strict": 5,
        "more exhaustive incremental relaxed": 6,
    }
    did, tries, rung, count = climb(placed, {"asked": 10, "more": 10})
    assert [way["registered"] for way in tries] == [4, 3, 6, 5, 6]
    assert (rung, count) == ("exhaustive matching", 6)
    assert [step for step in did if step.startswith("match")] == [
        "match sequential",
        "match exhaustive",
        "match exhaustive",
    ]
    assert "map global strict (try 2: global mapper)" in did
    assert "map incremental relaxed (try 5: relaxed start)" in did


@pytest.mark.colmap
def test_no_way_is_tried_that_cannot_place_more() -> None:
    exhaustive = replace(REQUEST, matcher="exhaustive")
    did, tries, rung, count = climb({"asked exhaustive incremental strict": 5}, {"asked": 5, "more": 5}, exhaustive)
    assert [way["name"] for way in tries] == ["as asked", "more features"]  # all that are connected are placed
    assert (rung, count) == ("as asked", 5)
    did, tries, rung, count = climb({}, {"asked": 2, "more": 1}, exhaustive)
    assert not [step for step in did if step.startswith(("map", "write"))]  # nothing to map
    assert (rung, count) == (None, 0)
    assert [way["registered"] for way in tries] == [0, 0]
