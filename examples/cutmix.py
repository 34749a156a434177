"""CutMix in anyone's training loop: the targets are exact pixel shares."""

import torch

from nndl_suite import CutMix

mix = CutMix(alpha=1.0, probability=1.0, num_classes=10, generator=torch.Generator().manual_seed(0))
images, labels = torch.rand(8, 3, 32, 32), torch.randint(0, 10, (8,))
mixed, targets = mix(images, labels)  # [8, 3, 32, 32], [8, 10]
print(targets.sum(dim=1), targets.max(dim=1).values)
