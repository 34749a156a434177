"""Telling a lack of memory from everything else that goes wrong."""

_PARTS = (
    *("can't allocate memory", "Cannot allocate memory", "out of memory"),
    *("can't start new thread", "std::bad_alloc", "failed to map segment from shared object"),
)
_WHOLE = ("could not create a primitive", "could not create a memory")
"""All that oneDNN says then; what it cannot do at all is told in more words."""


def lacks_memory(error: BaseException) -> bool:
    """Whether there was no memory: Python, torch, oneDNN, C++ and the system say so each in words of their own."""
    said = str(error)
    return isinstance(error, MemoryError) or said in _WHOLE or any(words in said for words in _PARTS)
