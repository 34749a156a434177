"""Both arms tuned with equal budgets, then compared with the rates chosen."""

from pathlib import Path
from tempfile import mkdtemp

from nndl_suite import compare_architectures, tune_architecture

CNN, TRANSFORMER, DATASET = "resnet18-slim", "vit", "demo"

out = Path(mkdtemp(prefix="tuning-"))
for arm in (CNN, TRANSFORMER):
    # Start the program on more machines with `storage=` one journal file or database: they share the trials.
    tuned = tune_architecture(arm, DATASET, trials=4, epochs=1, cnn=CNN, out=out / arm)
    print(f"{arm}: {tuned.best.settings}, {tuned.best.val_accuracy:.1%} of the validation images")

result = compare_architectures(
    CNN, TRANSFORMER, DATASET, epochs=2, seeds=(0, 1), tuned=[out / CNN, out / TRANSFORMER], out=out / "compared"
)
print(result.sentence.may)
print(result.sentence.may_not)
