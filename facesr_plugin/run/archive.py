"""What an earlier run of the same name left: moved aside, and moved back if the new one never gets under way."""

import itertools
import shutil
import time
from pathlib import Path


class Archive:
    """Folders of a new run, and where those that had their names have gone."""

    def __init__(self) -> None:
        self._made: list[tuple[Path, Path | None]] = []

    def make(self, folder: Path) -> None:
        """Make a folder of the run; what has its name becomes `NAME_archived_TIME`, as BasicSR calls it."""
        kept = None
        if folder.exists():
            name = f'{folder.name}_archived_{time.strftime("%Y%m%d_%H%M%S")}'
            names = itertools.chain([name], (f'{name}_{number}' for number in itertools.count(2)))
            kept = next(path for path in map(folder.with_name, names) if not path.exists())
            print(f'Path already exists. Rename it to {kept}', flush=True)
            folder.rename(kept)
        self._made.append((folder, kept))
        folder.mkdir(parents=True)

    @property
    def may_undo(self) -> bool:
        """Whether there are folders of a run that is not under way."""
        return bool(self._made)

    def keep(self) -> None:
        """Let all stay: the run is under way."""
        self._made.clear()

    def undo(self) -> None:
        """Put everything back as it was before, unless the run got under way."""
        for folder, kept in reversed(self._made):
            shutil.rmtree(folder, ignore_errors=True)
            if kept:
                print(f'Nothing was trained: {kept.name} is {folder.name} again', flush=True)
                kept.rename(folder)
        self._made.clear()
