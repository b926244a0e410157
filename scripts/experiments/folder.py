"""The folder of a run: what training left in it, and how long each part of the run took."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facesr_plugin.errors import UserError
from facesr_plugin.files import write
from facesr_plugin.models.history import read_history

Part = dict[str, float | None]  # a training process: iterations `from` and `to`, `status`, `seconds`, `cpu_seconds`


@dataclass(frozen=True)
class Folder:
    """An experiment's folder.

    Attributes:
        path: Below the current folder, where it is trained.
    """

    path: Path

    @property
    def weights(self) -> Path:
        """Its last weights."""
        return self.path / 'models' / 'net_g_latest.pth'

    def history(self) -> dict[str, list[Any]] | None:
        """Return its history, if there is one."""
        path = self.path / 'history.csv'
        return read_history(path) if path.exists() else None

    def further(self) -> dict[str, dict[str, float]]:
        """Return the last scores of its further validation sets, by their names.

        Raises:
            UserError: The file of them is damaged.
        """
        path = self.path / 'further.json'
        try:
            return json.loads(path.read_text()) if path.exists() else {}
        except ValueError as error:
            raise UserError(f'{path}: damaged; remove it, and the record has the first validation set alone') from error

    def newest_state(self) -> int:
        """Return the iteration from which `--auto_resume` goes on."""
        return max((int(path.stem) for path in (self.path / 'training_states').glob('[0-9]*.state')), default=0)

    def parts(self) -> list[Part]:
        """Return what is known of the parts in which it was trained.

        Raises:
            UserError: The file of them is damaged.
        """
        path = self.path / 'times.json'
        try:
            return json.loads(path.read_text()) if path.exists() else []
        except ValueError as error:
            raise UserError(f'{path}: damaged; remove it, and the time of this run is not known') from error

    def add_part(self, part: Part) -> None:
        """Keep how long a part took; a run that begins anew has no earlier ones."""
        if self.path.is_dir():
            parts = [*(self.parts() if part['from'] else []), part]
            write(self.path / 'times.json', json.dumps(parts).encode())

    def time(self, key: str) -> float | None:
        """Return the `seconds` or `cpu_seconds` of the whole run.

        None where a part was not timed: another program trained it, or a runner that was killed, or the system does not
        tell.
        """
        parts = self.parts()
        begun = [0, *(part['to'] for part in parts)]
        is_whole = all(part['from'] <= before for part, before in zip(parts, begun, strict=False))
        times = [part[key] for part in parts]
        return sum(times) if is_whole and None not in times else None
