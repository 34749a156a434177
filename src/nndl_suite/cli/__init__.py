"""The command line: parse, call the public names, show. Every byte on the screen is written in this folder."""

from nndl_suite.cli.app import main

__all__ = ["main"]
