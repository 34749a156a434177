"""What mkdocs does besides: the page of commands, and pages that are in the navigation only where they are written."""

import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

_HERE = Path(__file__).parent
_WHERE_WRITTEN = {"results.md": "Results", "reliability.md": "Reliability"}


def on_config(config: MkDocsConfig) -> None:
    """List the pages that exist."""
    background = next(part["Background"] for part in config.nav or [] if "Background" in part)
    for page, title in _WHERE_WRITTEN.items():
        if (Path(config.docs_dir) / page).exists():
            background.append({title: page})


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page of commands."""
    sys.path.insert(0, str(_HERE))
    from commands import commands_page  # noqa: PLC0415 - beside this file, which is on no path before

    files.append(File.generated(config, "reference/commands.md", content=commands_page()))
    return files
