"""An image set in the mirror."""

from dataclasses import dataclass, replace

from jaxtyping import Int64, UInt8
from torch import Tensor

from nndl_suite.data.image_set import ImageSet, ImageStore, ResidentImages


@dataclass(frozen=True, slots=True)
class MirroredImages:
    """The images of another store, left and right exchanged as they are read."""

    store: ImageStore

    @property
    def image_size(self) -> int:
        """Height and width in pixels."""
        return self.store.image_size

    def __len__(self) -> int:
        return len(self.store)

    def read(self, indices: Int64[Tensor, "b"]) -> UInt8[Tensor, "b 3 h w"]:
        """The images at `indices`, in that order."""
        return self.store.read(indices).flip(-1)

    def select(self, indices: Int64[Tensor, "b"]) -> "MirroredImages":
        """A store of only these images."""
        return MirroredImages(self.store.select(indices))


def mirrored(images: ImageSet) -> ImageSet:
    """The same set with left and right exchanged in every image."""
    if isinstance(images.store, ResidentImages):
        store: ImageStore = ResidentImages(images.store.pixels.flip(-1))  # so that it is read without workers
    else:
        store = MirroredImages(images.store)
    return replace(images, store=store, fingerprint=f"{images.fingerprint}/mirrored")
