"""Parameters and FLOPs of the course project's two models and of the matched pair; writes results/course_counts.json.

python benchmarks/course_counts.py
"""

from __future__ import annotations

from pathlib import Path

from record import circumstances, save

from nndl_suite.comparison.architectures import resolve_arms
from nndl_suite.training.files import Json

PAIRS = {"course": ("course-resnet18", "course-vit"), "matched": ("resnet18", "vit")}


def main() -> None:
    """Build and count; nothing is trained."""
    start = circumstances()
    found: dict[str, Json] = {}
    for name, (cnn, transformer) in PAIRS.items():
        arms = resolve_arms(cnn, transformer, num_classes=100, image_size=32)
        found[name] = [{"name": arm.name, "parameters": arm.parameters, "flops": arm.flops} for arm in arms]
    print(save("course_counts", start, found, Path(__file__).with_name("results")))


if __name__ == "__main__":
    main()
