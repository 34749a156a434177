"""`nndl-suite nerf`: from photos or a video to a radiance field, its scores, its orbit."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from nndl_suite.cli.options import AsJson, DeviceName, Out, Resume, Seed
from nndl_suite.cli.results import show_result
from nndl_suite.cli.screen import print_json, progress, say

app = typer.Typer(help="Reconstruction: photos or a phone video to a radiance field.", no_args_is_help=True)

Capture = Annotated[Path, typer.Argument(help="A folder of photos, a video, or a folder that has poses.")]
Run = Annotated[Path, typer.Argument(help="The run folder of a finished `nerf train`.")]
