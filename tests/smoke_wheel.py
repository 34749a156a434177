"""Run against an installed wheel, outside the checkout: the public names are there and one of each kind works."""

import sys

import nndl_suite

assert "torch" not in sys.modules, "import nndl_suite must not import torch"
assert "site-packages" in nndl_suite.__file__, nndl_suite.__file__

import torch  # noqa: E402

for name in nndl_suite.__all__:
    getattr(nndl_suite, name)

images, targets = nndl_suite.CutMix(num_classes=3)(torch.zeros(4, 3, 8, 8), torch.tensor([0, 1, 2, 0]))
assert targets.shape == (4, 3)
print("wheel works:", nndl_suite.__version__)
