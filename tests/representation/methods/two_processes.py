"""One of several processes that share batches: `python two_processes.py RANK WORLD FOLDER METHOD...`.

Saves for each method the losses of two steps and the gradient of a linear layer below the loss, averaged over the
processes as data-parallel training does.
"""

import sys
from pathlib import Path

import torch
from bare_methods import DIM, bare, embeddings
from torch import distributed, nn

BATCH = 8


def figures(name: str, rank: int, world: int) -> dict[str, torch.Tensor]:
    """Losses and gradients of two steps on this process's part of each batch, means over the processes."""
    torch.manual_seed(0)
    method = bare(name)
    if name == "dino":
        method.head.layers, method.teacher_head.layers = nn.Linear(DIM, 256), nn.Linear(DIM, 256)
    else:
        method.projector = nn.Linear(DIM, DIM)
    if hasattr(method, "queue"):
        method.queue.rows = nn.functional.normalize(method.queue.rows[:24, :DIM], dim=1).clone()
    if name == "swav":
        method.prototypes = nn.Parameter(torch.randn(6, DIM))
    losses, per = [], BATCH // world
    for step in range(2):
        views = embeddings(step, b=BATCH)[:, rank * per : (rank + 1) * per]
        torch.manual_seed(step)  # LeJEPA's directions
        loss = method(views, None, 0.5)
        loss.backward()
        losses.append(loss.detach())
    learned = {key: weight.grad for key, weight in method.named_parameters() if weight.grad is not None}
    found = {"losses": torch.stack(losses)} | learned
    for figure in found.values():
        if world > 1:
            distributed.all_reduce(figure)
            figure /= world
    return found


def main(rank: int, world: int, folder: Path, names: list[str]) -> None:
    """One method after the other."""
    torch.set_num_threads(1)
    if world > 1:
        distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    found = {name: figures(name, rank, world) for name in names}
    if rank == 0:
        torch.save(found, folder / f"{world}.pt")
    if world > 1:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
