"""Files inside a page."""

import base64
from pathlib import Path

from nndl_suite.errors import RunError


def data_uri(content: Path | bytes, media_type: str) -> str:
    """A file or bytes as a URI that holds them.

    Raises:
        RunError: the file cannot be read.
    """
    try:
        raw = content.read_bytes() if isinstance(content, Path) else content
    except OSError as error:
        raise RunError(f"cannot read {content}: {error.strerror}") from error
    return f"data:{media_type};base64,{base64.b64encode(raw).decode()}"
