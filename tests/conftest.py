import os

# One thread a process: the suite runs as many processes as there are cores, and tiny sizes gain nothing from threads.
os.environ.setdefault('OMP_NUM_THREADS', '1')

import facesr_plugin  # noqa: F401  (before any test imports BasicSR: it makes BasicSR importable)

# isort: split
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from basicsr import test as test_pipeline
from basicsr import train as train_pipeline
from small import Options, make_data, measuring_options, training_options

from facesr_plugin.errors import run_command

collect_ignore = ['run_and_break.py', 'two_processes.py']  # scripts that tests start


@pytest.fixture
def data(tmp_path) -> Path:
    """Return a folder with three pairs of images: hr/ of 96x96 px and lr/ of 24x24 px."""
    make_data(tmp_path)
    return tmp_path


@pytest.fixture
def opt(data) -> Options:
    """Return the options of a small training of experiment 1, without anything wrong."""
    return training_options(data)


@pytest.fixture
def measuring(data) -> Options:
    """Return the options of a test by stock types."""
    return measuring_options(data)


@pytest.fixture
def command(data, monkeypatch, capfd) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Return a function that runs `train.main` or `test.main` on options in this process, in an empty folder.

    It returns status, stdout and stderr; nothing may have been written.
    """
    root = data / 'root'
    root.mkdir()
    monkeypatch.chdir(root)
    for pipeline in (test_pipeline, train_pipeline):
        for name, value in list(vars(pipeline).items()):
            monkeypatch.setattr(pipeline, name, value)  # what the entry points replace comes back
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run(main: Callable, opt: Options | str, *args: str) -> tuple[int, str, str]:
        (data / 'opt.yml').write_text(opt if isinstance(opt, str) else yaml.safe_dump(opt))
        monkeypatch.setattr('sys.argv', ['train.py', '-opt', str(data / 'opt.yml'), *args])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            run_command(main)
        assert list(root.iterdir()) == []
        return end.value.code, *capfd.readouterr()

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)
