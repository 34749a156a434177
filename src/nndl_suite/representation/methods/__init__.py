"""Self-supervised methods: each turns random views of a batch into a loss (see `method.SSLMethod`)."""

from nndl_suite.representation.methods import (
    barlow,
    byol,
    dino,
    lejepa,
    mocov2,
    mocov3,
    nnclr,
    simclr,
    simsiam,
    supervised,
    swav,
    vicreg,
)
from nndl_suite.representation.methods.method import Method

METHODS: dict[str, Method] = {
    "simclr": simclr.METHOD,
    "mocov2": mocov2.METHOD,
    "mocov3": mocov3.METHOD,
    "byol": byol.METHOD,
    "simsiam": simsiam.METHOD,
    "barlow": barlow.METHOD,
    "vicreg": vicreg.METHOD,
    "swav": swav.METHOD,
    "dino": dino.METHOD,
    "nnclr": nnclr.METHOD,
    "lejepa": lejepa.METHOD,
    "supervised": supervised.METHOD,
}
"""By name."""
