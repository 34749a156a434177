"""What a check of the machine found."""

import os
from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One row of the doctor's table."""

    name: str
    found: str
    state: State = "ok"
    """"warn": it works, but less or slower than it could; "fail": something that everybody needs is broken."""
    cure: str | None = None
    """The line that mends it; where all is well, the line that brings something optional."""


def set_line(name: str, value: str) -> str:
    """The line that sets an environment variable in this system's usual shell."""
    return f'$env:{name} = "{value}"' if os.name == "nt" else f"export {name}={value}"


def unset_line(name: str) -> str:
    """The line that forgets an environment variable."""
    return f"Remove-Item Env:{name}" if os.name == "nt" else f"unset {name}"
