"""Which image files a folder holds.

Links are followed, since many keep large data elsewhere, and loops of them end. Hidden files are
the file system's own, like macOS's `._7.png`. What cannot be listed stops the reading, and what is
called like an image but is no plain file is returned apart: a folder that is read in part only must
not look like a smaller one.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

from vasculora.core.io import IMAGE_SUFFIXES

ODD = "names of images that are no plain file (a broken link, a pipe, a device, a folder)"
"""Why a file that is called like an image is not used."""


@dataclass(kw_only=True)
class Files:
    """What a folder holds, by paths below it with `/` between folders, sorted.

    Attributes:
        plain: Files that can be read.
        odd: What is called like one and is none.
    """

    plain: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)


def list_files(
    folder: Path, *, suffixes: tuple[str, ...] = IMAGE_SUFFIXES, deep: bool = True
) -> Files:
    """Return the files below a folder that have one of some suffixes.

    Args:
        folder: The folder.
        suffixes: Their endings, in lower case.
        deep: Look into the folders below it too.

    Raises:
        OSError: If a folder cannot be listed.
    """
    found = Files()
    pending, seen = [""], set()
    while pending:
        below = pending.pop()
        real = os.path.realpath(folder / below)
        if real in seen:
            continue
        seen.add(real)
        inner = []
        with os.scandir(folder / below) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                name = f"{below}/{entry.name}" if below else entry.name
                is_folder = Path(entry.path).is_dir() if entry.is_symlink() else entry.is_dir()
                if is_folder:
                    inner.append(name)
                if entry.name.lower().endswith(suffixes):
                    plain = not is_folder and Path(entry.path).is_file()
                    (found.plain if plain else found.odd).append(name)
        if deep:
            pending += sorted(inner, reverse=True)
    found.plain.sort()
    found.odd.sort()
    return found
