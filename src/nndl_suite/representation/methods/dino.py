"""DINO (arXiv 2104.14294): match a momentum teacher's sharpened and centred distribution over prototypes."""

import torch
from jaxtyping import Float, Int64
from lightly.loss import DINOLoss
from torch import Tensor, nn
from torch.nn import functional as F

from nndl_suite.models.backbones import Backbone
from nndl_suite.representation.methods.method import ASYMMETRIC, Method, Recipe, SSLMethod
from nndl_suite.representation.methods.teacher import follow, rising_momentum, teacher_of

BOTTLENECK_DIM = 256
PROTOTYPES = 4096
"""As is usual for CIFAR; 65,536 in the paper, for ImageNet."""
MOMENTUM = 0.996
TEACHER_TEMPERATURES = (0.04, 0.07)
"""From the first to the second over the warm-up, then constant: the paper's."""
WARMUP = 0.1
"""Share of the run in which the teacher's temperature rises; in the first tenth of it the prototypes stand still."""


class DINOHead(nn.Module):
    """Three layers to a unit bottleneck, then its cosines with unit prototypes: the paper's head, its norms at 1."""

    def __init__(self, input_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(input_dim, hidden_dim, bias=False),
            nn.BatchNorm1d(hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, hidden_dim, bias=False),
            nn.BatchNorm1d(hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, BOTTLENECK_DIM),
        )
        self.prototypes = nn.Parameter(torch.randn(PROTOTYPES, BOTTLENECK_DIM))

    def forward(self, features: Float[Tensor, "b d"], *, frozen: bool) -> Float[Tensor, "b k"]:
        """Cosines with the prototypes, which take no gradient while `frozen`."""
        bottleneck = F.normalize(self.layers(features).float(), dim=1)
        prototypes = F.normalize(self.prototypes, dim=1)
        with torch.autocast(bottleneck.device.type, enabled=False):
            return bottleneck @ (prototypes.detach() if frozen else prototypes).T


class DINO(SSLMethod):
    """A student and a teacher that follows it."""

    def __init__(self, backbone: Backbone, recipe: Recipe, _: int = 0) -> None:
        super().__init__(backbone)
        assert recipe.temperature is not None
        self.head = DINOHead(backbone.feature_dim, recipe.width(backbone))
        self.teacher_backbone, self.teacher_head = teacher_of(backbone), teacher_of(self.head)
        self.loss = DINOLoss(PROTOTYPES, student_temp=recipe.temperature)

    def forward(
        self, views: Float[Tensor, "v b 3 h w"], labels: Int64[Tensor, "b"] | None = None, fraction: float = 0.0
    ) -> Float[Tensor, ""]:
        """The cross-entropy of teacher and student over different views (eq. 3); log(PROTOTYPES) is chance."""
        flat, count = views.flatten(0, 1), len(views)
        student = self.head(self.backbone(flat), frozen=fraction < WARMUP / 10)
        with torch.no_grad():
            teacher = self.teacher_head(self.teacher_backbone(flat), frozen=True)
        with torch.autocast(student.device.type, enabled=False):
            return self.loss(list(teacher.chunk(count)), list(student.chunk(count)), teacher_temperature(fraction))

    def after_step(self, fraction: float) -> None:
        """The teacher follows."""
        momentum = rising_momentum(fraction, MOMENTUM)
        follow(self.teacher_backbone, self.backbone, momentum)
        follow(self.teacher_head, self.head, momentum)


def teacher_temperature(fraction: float) -> float:
    """Of the teacher's softmax, when this share of the run is done."""
    first, last = TEACHER_TEMPERATURES
    return first + (last - first) * min(1.0, fraction / WARMUP)


METHOD = Method(
    build=DINO,
    recipe=Recipe(
        optimiser="lars", learning_rate=0.3, weight_decay=1e-6, views=ASYMMETRIC, projector_dim=2048, temperature=0.1
    ),
    exact_views=None,
    rests=True,
)
