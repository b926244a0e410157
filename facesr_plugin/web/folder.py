"""The folder of a page that is open, and what has it removed: nothing stays behind. Gradio is not imported here."""

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

SETTINGS = {  # Gradio's; it reads them when it is imported. Nobody else is to be told, or asked, anything.
    'GRADIO_ANALYTICS_ENABLED': 'False',
    'GRADIO_RUN_HISTORY': 'False',
    'GRADIO_SHARE': 'False',
    'GRADIO_MCP_SERVER': 'False',
    'GRADIO_SSR_MODE': 'False',
    'HF_HUB_DISABLE_TELEMETRY': '1',
    'HF_HUB_OFFLINE': '1',
}


@contextmanager
def own_folder() -> Iterator[Path]:
    """Give a folder that only this user can read, and make Gradio use it; it is gone in the end, whatever ends it."""
    folder = Path(tempfile.mkdtemp(prefix='facesr_web_')).resolve()
    os.environ.update(SETTINGS, GRADIO_TEMP_DIR=str(folder))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Turn the end of a terminal, and the signal to end, into an exit that cleans up."""

    def leave(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    numbers = [getattr(signal, name) for name in ('SIGTERM', 'SIGHUP') if hasattr(signal, name)]
    before = {number: signal.signal(number, leave) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
