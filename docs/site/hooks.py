"""What mkdocs does besides: the page of commands."""

import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

_HERE = Path(__file__).parent


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page of commands."""
    sys.path.insert(0, str(_HERE))
    from commands import commands_page  # noqa: PLC0415 - beside this file, which is on no path before

    files.append(File.generated(config, "reference/commands.md", content=commands_page()))
    return files
