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
    settings = SETTINGS | {'GRADIO_TEMP_DIR': str(folder)}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Have the signal to end lead to an exit that cleans up, and the end of the terminal to the signal to end."""

    def leave(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, leave)}
    if hasattr(signal, 'SIGHUP') and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # which nohup asks for
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, lambda number, frame: signal.raise_signal(signal.SIGTERM))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
