"""Networks whose batch norms were folded, made fit for training again."""

import pytest
import torch
from torch import Tensor, nn

from nndl_suite.models.backbones import build_backbone
from nndl_suite.models.folded_norms import has_folded_norms, unfold_norms


def network(seed: int = 0) -> nn.Module:
    """Trained, as far as its norms can tell."""
    torch.manual_seed(seed)
    trunk = build_backbone("resnet18-slim", stem="imagenet", image_size=32).trunk.double().train()
    with torch.no_grad():
        for module in trunk.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 2)
                module.bias.normal_()
        for _ in range(60):
            trunk(images(64))
    return trunk.eval()


def images(n: int) -> Tensor:
    return torch.randn(n, 3, 32, 32, dtype=torch.float64)


def folded(trunk: nn.Module) -> nn.Module:
    for module in trunk.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            scale = module.weight.data / (module.running_var + module.eps).sqrt()
            module.bias.data -= scale * module.running_mean
            module.weight.data = scale * (1 + module.eps) ** 0.5
            module.running_mean.zero_()
            module.running_var.fill_(1)
    return trunk


def test_eval_mode_gives_the_same_and_training_mode_what_it_gave_before_folding() -> None:
    trunk, looked_at = network(), images(512)
    wanted = trunk(looked_at)
    in_training = network().train()(looked_at)
    lost = folded(trunk)
    torch.testing.assert_close(lost(looked_at), wanted)
    before = lost.train()(looked_at)
    assert (before - in_training).square().mean() > 0.3 * in_training.var()  # another network altogether
    lost = folded(network())
    unfold_norms(lost, looked_at.split(200))
    assert not lost.training
    torch.testing.assert_close(lost(looked_at), wanted, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(lost.train()(looked_at), wanted, rtol=1e-6, atol=1e-6)


def test_only_trained_networks_without_statistics_count_as_folded() -> None:
    assert not has_folded_norms(build_backbone("resnet18-slim", stem="imagenet", image_size=32))  # untrained
    assert not has_folded_norms(network())
    assert has_folded_norms(folded(network()))
    assert not has_folded_norms(nn.Sequential(nn.Linear(2, 2)))


def test_norms_without_scale_or_statistics_are_left_alone() -> None:
    network = nn.Sequential(nn.BatchNorm1d(3, affine=False), nn.BatchNorm1d(3, track_running_stats=False))
    assert not has_folded_norms(network)
    unfold_norms(network, [torch.randn(5, 3)])
    assert torch.equal(network[0].running_mean, torch.zeros(3))


@pytest.mark.parametrize("training", [False, True])
def test_the_mode_stays(training: bool) -> None:
    trunk = folded(network()).train(training)
    unfold_norms(trunk, [images(8)])
    assert trunk.training == training
