"""Pretrain without labels, then compare the features with random ones (about a minute on two cores)."""

from pathlib import Path
from tempfile import mkdtemp

from nndl_suite import LinearProbe, SSLPretrainer

out = Path(mkdtemp(prefix="representation-"))
run = SSLPretrainer(backbone="resnet18-slim", epochs=5, batch_size=250, seed=0).fit("demo", out=out / "pretrain")
for name, features in (("simclr", run), ("random", "random")):
    result = LinearProbe(features=features, backbone="resnet18-slim", seed=0).evaluate("demo", out=out / name)
    print(f"{name:7s} {result.test_accuracy:.1%}")
