"""How much memory a piece of work takes at most: what a test holds to and a benchmark reports.

Linux tells two kinds apart: anonymous memory is a process's own; pages of mapped files are the
system's to drop and to read again.
"""

import ctypes
import gc
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_KINDS = ("RssAnon", "RssFile")
_SECONDS = 0.001


@dataclass
class Memory:
    """Bytes in memory, by kind.

    Attributes:
        before: At the start.
        peak: The most that was seen.
        longest_gap: Seconds in which nobody looked, at most.
    """

    before: dict[str, int]
    peak: dict[str, int]
    longest_gap: float = 0.0

    @property
    def anonymous(self) -> int:
        """Anonymous memory that was needed beyond what had been there."""
        return self.peak["RssAnon"] - self.before["RssAnon"]

    @property
    def mapped(self) -> int:
        """Pages of files that were in memory beyond those that had been."""
        return self.peak["RssFile"] - self.before["RssFile"]


@contextmanager
def watch_memory() -> Iterator[Memory]:
    """Look at this process's memory every millisecond for as long as the block runs."""
    # what is garbage, or was freed but not given back, would be used again, unseen
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    memory, done = Memory(before=_resident(), peak=_resident()), threading.Event()

    def look() -> None:
        memory.peak = {kind: max(memory.peak[kind], size) for kind, size in _resident().items()}

    def keep_looking() -> None:
        last = time.perf_counter()
        while not done.wait(_SECONDS):
            look()
            now = time.perf_counter()
            memory.longest_gap, last = max(memory.longest_gap, now - last), now

    watcher = threading.Thread(target=keep_looking, daemon=True)
    watcher.start()
    try:
        yield memory
    finally:
        done.set()
        watcher.join()
        look()


def _resident() -> dict[str, int]:
    sizes = dict(re.findall(r"(\w+):\s+(\d+) kB", Path("/proc/self/status").read_text()))
    return {kind: 1024 * int(sizes[kind]) for kind in _KINDS}
