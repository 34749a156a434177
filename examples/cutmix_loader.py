"""CutMix or MixUp inside a DataLoader, where the workers mix while the network learns."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from nndl_suite import CutMix
from nndl_suite.comparison.cutmix_or_mixup import CutMixOrMixUp
from nndl_suite.comparison.mixup import MixUp

CLASSES = 10


def main() -> None:
    """Eight steps of a small network on random images."""
    torch.manual_seed(0)
    images, labels = torch.rand(128, 3, 32, 32), torch.randint(CLASSES, (128,))
    # What `timm.data.Mixup(mixup_alpha=0.8, cutmix_alpha=1.0)` does, as a recipe moved from there would have it.
    mix = CutMixOrMixUp(
        cutmix=CutMix(alpha=1.0, probability=1.0, variant="timm", num_classes=CLASSES),
        mixup=MixUp(alpha=0.8, probability=1.0, variant="timm", num_classes=CLASSES),
    )
    loader = DataLoader(
        TensorDataset(images, labels),
        batch_size=16,
        shuffle=True,
        num_workers=2,
        collate_fn=mix.collate,
        generator=torch.Generator().manual_seed(0),  # it alone decides the order, and what the workers draw
    )
    network = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(CLASSES))
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01)
    for mixed, targets in loader:  # [16, 3, 32, 32], [16, 10]
        loss = F.cross_entropy(network(mixed), targets, label_smoothing=0.1)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        print(f"loss {loss.item():.3f}, largest share of a class {targets.max(dim=1).values.mean():.2f}")


if __name__ == "__main__":
    main()
