"""A small CNN against a Transformer of the same parameter count (about two minutes on two cores)."""

from pathlib import Path
from tempfile import mkdtemp

from nndl_suite import compare_architectures

out = Path(mkdtemp(prefix="comparison-"))
result = compare_architectures("resnet18-slim", "vit", "demo", epochs=4, seeds=(0, 1), out=out / "run")
for arm in result.arms:
    print(f"{arm.name}: {arm.parameters:,} parameters, {arm.mean:.1%}")
print(result.sentence.may)
print(result.sentence.may_not)
