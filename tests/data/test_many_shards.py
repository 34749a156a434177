"""Two thousand images in some shards: complete, in one order whoever reads them, taken up in the middle."""

import hashlib
import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from nndl_suite.data import folders
from nndl_suite.data import shards as shards_module
from nndl_suite.data.batches import Batches
from nndl_suite.data.catalog import load_image_set
from nndl_suite.data.write_shards import write_shards

IMAGES, BATCH, MIDDLE = 2000, 100, 12

RESUMED = """
import hashlib, sys
from nndl_suite.data import shards
from nndl_suite.data.batches import Batches
from nndl_suite.data.catalog import load_image_set
shards.RESIDENT_BYTES = 0
batches = Batches(load_image_set(f"wds:{sys.argv[1]}", "unlabelled"), batch_size=100, seed=5, workers=1)
for step in range(12, 20):
    print(hashlib.sha256(batches.at(step).images.numpy().tobytes()).hexdigest())
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A flat folder of 2,000 JPEGs of noise, its shards, and its pixels."""
    root = tmp_path_factory.mktemp("many")
    (root / "in").mkdir()
    for i, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (IMAGES, 16, 16, 3), dtype=np.uint8)):
        content = BytesIO()
        Image.fromarray(pixels).save(content, "jpeg", quality=90)
        (root / "in" / f"{i:04d}.jpg").write_bytes(content.getvalue())
    written = write_shards(root / "in", root / "out", shard_mib=1)
    assert len(written.shards) >= 3
    return root


@pytest.fixture
def streamed(made, monkeypatch):
    monkeypatch.setattr(shards_module, "RESIDENT_BYTES", 0)
    return load_image_set(f"wds:{made}/out", "unlabelled")


def digest(batch):
    return hashlib.sha256(batch.images.numpy().tobytes()).hexdigest()


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")  # on two cores
def test_complete_and_in_one_order_by_one_worker_and_by_three_and_from_the_middle(made, streamed):
    known = folders.read_labelled("folder", made / "in", None, lambda _: None).store.pixels
    orders, told = [], []
    for workers in (1, 3):
        batches = Batches(streamed, batch_size=BATCH, seed=5, workers=workers)
        assert len(batches) == IMAGES // BATCH
        epoch = [batches.at(step) for step in range(len(batches))]
        orders.append(torch.cat([batch.indices for batch in epoch]))
        assert torch.equal(torch.cat([batch.images for batch in epoch]), known[orders[-1]])
        told.append([digest(batch) for batch in epoch])
    assert torch.equal(orders[0].sort().values, torch.arange(IMAGES))
    assert not torch.equal(orders[0], torch.arange(IMAGES))
    assert told[0] == told[1]
    resumed = subprocess.run(
        [sys.executable, "-c", RESUMED, str(made / "out")], capture_output=True, text=True, check=True
    )
    assert resumed.stdout.split() == told[0][MIDDLE:]


def test_the_next_epoch_is_another_order(streamed):
    batches = Batches(streamed, batch_size=BATCH, seed=5, workers=0)
    assert not torch.equal(batches.at(0).indices, batches.at(len(batches)).indices)
