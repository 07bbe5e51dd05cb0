"""Sources of formats that have a file for each clip."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path

from asma.data.formats._beside import Beside
from asma.data.formats._files import place
from asma.data.formats._folders import Found
from asma.data.source import Clip, Header, LeftOut

__all__ = ["FileSource", "FoundSource"]


class FileSource(ABC):
    """Files of one folder, which are the parts."""

    format: str

    def __init__(self, base: Path, names: Sequence[str], header: Header, beside: Beside) -> None:
        self.header = header
        self.parts = names
        self._base, self._beside = base, beside

    def read(self, part: str) -> Iterator[Clip | LeftOut]:
        """See `asma.data.source.Source.read`; a part is a file, and a damaged one is left out."""
        return self._beside.settled([self._clip(self._base / part)], self.header)

    @abstractmethod
    def _clip(self, path: Path) -> Clip | LeftOut:
        """What a file holds, or why it cannot be read."""


class FoundSource(ABC):
    """Files of a folder, or of folders that are classes."""

    format: str

    def __init__(self, base: Path, clips: Sequence[Found], header: Header, beside: Beside) -> None:
        self.header = header
        self._base, self._beside = base, beside
        self._found = {place(clip.path, base): clip for clip in clips}
        self.parts: Sequence[str] = tuple(self._found)

    def read(self, part: str) -> Iterator[Clip | LeftOut]:
        """See `asma.data.source.Source.read`; a part is a file, and a damaged one is left out."""
        return self._beside.settled([self._clip(part, self._found[part])], self.header)

    @abstractmethod
    def _clip(self, source: str, found: Found) -> Clip | LeftOut:
        """What a file holds, or why it cannot be read; `source` is what it is called."""
