"""One of two processes: `python norms_of_two.py RANK FOLDER` saves what batch norms make of its half of a batch."""

import sys
from copy import deepcopy
from pathlib import Path

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import distributed, nn

from nndl_suite.models.synchronised_norms import synchronise_norms

CASES = {
    "images": (nn.BatchNorm2d(5), (8, 5, 3, 2)),
    "features": (nn.BatchNorm1d(5, momentum=None), (8, 5)),
    "plain": (nn.BatchNorm2d(5, affine=False), (8, 5, 3, 3)),
    "with a nonlinearity": (BatchNormAct2d(5), (8, 5, 3, 3)),
}
Figures = dict[str, dict[str, torch.Tensor]]


def figures(norm: nn.Module, shape: tuple[int, ...], rows: slice, kind: torch.dtype) -> dict[str, torch.Tensor]:
    """Two training steps and an evaluation on some rows of a batch: outputs, gradients and running statistics."""
    norm = deepcopy(norm).to(kind)
    with torch.no_grad():
        for place, weight in enumerate(norm.parameters()):
            weight.copy_(torch.arange(5) * 0.3 + 1 - place)
    synchronise_norms(norm)
    generator, found = torch.Generator().manual_seed(0), {}
    for step in range(2):
        x = 3 + 2 * torch.randn(shape, dtype=kind, generator=generator)
        pull = torch.randn(shape, dtype=kind, generator=generator)[rows]
        part = x[rows]
        if x.ndim == 4:
            part = part.contiguous(memory_format=torch.channels_last)
        part = part.detach().requires_grad_()
        y = norm(part)
        (y * pull + y.square()).sum().backward()
        assert y.ndim == 2 or y.is_contiguous(memory_format=torch.channels_last)
        found |= {f"y{step}": y.detach(), f"x{step}": part.grad}
    summed = {f"weight{i}": weight.grad for i, weight in enumerate(norm.parameters())}
    with torch.no_grad():
        found["eval"] = norm.eval()(x[rows])
    return found | summed | {f"state {name}": value for name, value in norm.state_dict().items()}


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    rows = slice(4 * rank, 4 * rank + 4)
    found = {
        f"{name} {kind}": figures(*case, rows, kind)
        for name, case in CASES.items()
        for kind in (torch.float64, torch.float32)
    }
    torch.save(found, folder / f"{rank}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
