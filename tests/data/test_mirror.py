import torch
from PIL import Image

from nndl_suite.data.image_set import FileImages, file_set, resident_set
from nndl_suite.data.mirror import mirrored


def test_left_and_right_are_exchanged_in_memory_and_on_disk(tmp_path):
    pixels = torch.arange(2 * 3 * 4 * 4, dtype=torch.uint8).view(2, 3, 4, 4)
    files = []
    for i, image in enumerate(pixels):
        files.append(tmp_path / f"{i}.png")
        Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).save(files[-1])
    labels = torch.tensor([1, 0])
    resident = resident_set("a", pixels, labels, ("x", "y"))
    streamed = file_set("a", FileImages(tuple(files), 4), labels, ("x", "y"))
    for images in (resident, streamed):
        turned = mirrored(images)
        assert torch.equal(turned.store.read(torch.tensor([1, 0])), pixels.flip(0, -1))
        assert torch.equal(turned.subset(torch.tensor([1])).store.read(torch.tensor([0]))[0], pixels[1].flip(-1))
        assert (len(turned), turned.image_size, turned.labels.tolist()) == (2, 4, [1, 0])
        assert turned.fingerprint != images.fingerprint
        assert torch.equal(images.store.read(torch.tensor([0, 1])), pixels)
