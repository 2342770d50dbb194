"""Which vendor files lie in a folder, by data type and day: one walk, done again only when a folder has changed."""

import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from market_data_pipeline.model.errors import SourceError
from market_data_pipeline.sources.files.file_names import VendorFile, recognise

_SETTLED = 2_000_000_000
"""Nanoseconds after which a folder's time of change can be trusted: file systems stamp as coarsely as two seconds."""


@dataclass
class Listing:
    """What one walk found.

    Attributes:
        files: (data type, day) to the files, in the order of their paths.
        ignored: how many files have a name that no rule knows, or are links that lead out of the folder.
        folders: each folder's time of change, in nanoseconds.
        walked: when the walk began, in nanoseconds since the epoch.
    """

    files: dict[tuple[str, date], list[VendorFile]] = field(default_factory=lambda: defaultdict(list))
    ignored: int = 0
    folders: dict[Path, int] = field(default_factory=dict)
    walked: int = field(default_factory=time.time_ns)

    def days(self, data_type: str) -> list[date]:
        """The days on which there is a file of a data type, rising."""
        return sorted(day for held, day in self.files if held == data_type)

    def holds(self) -> bool:
        """True as long as nothing can have come, gone or been renamed since the walk."""
        try:
            return all(
                folder.stat().st_mtime_ns == changed and changed + _SETTLED < self.walked
                for folder, changed in self.folders.items()
            )
        except OSError:
            return False


class FolderIndex:
    """The files below one folder. May be used from any thread.

    Links to folders are not followed; links to files count where they lead to a file of this folder, or nowhere at all:
    reading such a one says so.

    Attributes:
        root: the folder.
        unlisted: a file that is neither a vendor's nor unknown, such as the mapping file.
    """

    def __init__(self, root: Path, unlisted: Path) -> None:
        self.root, self.unlisted = root, unlisted
        self._lock = threading.Lock()
        self._listing: Listing | None = None

    def listing(self) -> Listing:
        """What the folder holds now.

        Raises:
            SourceError: a folder cannot be read.
        """
        with self._lock:
            if self._listing is None or not self._listing.holds():
                self._listing = self._walk()
            return self._listing

    def _walk(self) -> Listing:
        listing = Listing()
        try:
            root = self.root.resolve(strict=True)
            for path in sorted(_files(self.root, root, listing)):
                found = recognise(self.root, path)
                if found is not None:
                    listing.files[found.data_type, found.day].append(found)
                elif path != self.unlisted:
                    listing.ignored += 1
        except OSError as error:
            raise SourceError(
                f"{error.filename or self.root}: the folder cannot be listed: {error.strerror}"
            ) from error
        listing.files = dict(listing.files)
        return listing


def _files(folder: Path, root: Path, listing: Listing) -> Iterator[Path]:
    listing.folders[folder] = folder.stat().st_mtime_ns
    with os.scandir(folder) as entries:
        for entry in entries:
            path = folder / entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from _files(path, root, listing)
            elif not entry.is_symlink() or (not path.is_dir() and inside(path, root)) or not path.exists():
                # a link that leads nowhere is a file that cannot be read: its instrument must not pass for gone
                yield path
            else:
                listing.ignored += 1


def inside(link: Path, root: Path) -> bool:
    """Whether a link leads to something below a folder, which is given without links."""
    try:
        return link.resolve(strict=True).is_relative_to(root)
    except (OSError, RuntimeError):
        return False
