"""`nndl-suite data`: bring images into the form in which they stream."""

from pathlib import Path
from typing import Annotated

import typer

from nndl_suite.cli.options import AsJson
from nndl_suite.cli.screen import print_json, progress, say

app = typer.Typer(
    help="Data: bring images into the form in which they stream.",
    epilog="Example:\n\n  nndl-suite data shard photos/ --out shards/",
    no_args_is_help=True,
)


@app.command()
def shard(
    folder: Annotated[Path, typer.Argument(help="Class folders, or a flat folder of images.")],
    out: Annotated[Path, typer.Option("--out", help="The folder for the shards; must be new or empty.")],
    shard_mib: Annotated[int, typer.Option("--shard-mib", help="MiB a shard has at most.", min=1)] = 256,
    as_json: AsJson = False,
) -> None:
    """Write a folder of images as WebDataset shards, tars that `--dataset wds:OUT` reads in place.

    Example:
      nndl-suite data shard photos/ --out shards/
    """
    from nndl_suite.data.write_shards import write_shards

    with progress() as watch:
        written = write_shards(folder, out, shard_mib=shard_mib, watch=watch)
    if as_json:
        print_json(
            {"out": str(out), "shards": len(written.shards), "images": written.images, "classes": written.classes}
        )
    else:
        say(f"{written.images} images in {len(written.shards)} shards: use --dataset wds:{out}")


@app.command()
def index(
    shards: Annotated[Path, typer.Argument(help="A folder of tars, a glob, or numbers in braces: x-{000..123}.tar.")],
    as_json: AsJson = False,
) -> None:
    """Keep beside each shard what is where in it, so that `--dataset wds:SHARDS` opens without reading them through.

    `data shard` does so itself: this is for shards from elsewhere, or that were copied without their times.

    Example:
      nndl-suite data index 'shards/images-{000..123}.tar'
    """
    from nndl_suite.data.shards import index_shards

    with progress() as watch:
        images = index_shards(shards, watch)
    if as_json:
        print_json({"shards": str(shards), "images": images})
    else:
        say(f"{images} images: --dataset wds:{shards} now opens at once, until a shard changes")
