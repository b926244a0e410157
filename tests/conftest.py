import os

# One thread a process: the suite runs as many processes as there are cores, and tiny sizes gain nothing from threads.
os.environ.setdefault('OMP_NUM_THREADS', '1')

import facesr_plugin  # noqa: F401  (before any test imports BasicSR: it makes BasicSR importable)

# isort: split
import logging
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from basicsr import test as test_pipeline
from basicsr import train as train_pipeline
from basicsr.utils.logger import initialized_logger
from small import Options, make_data, measuring_options, training_options

from facesr_plugin.errors import run_command

BROWSERS = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')
collect_ignore = ['run_and_break.py', 'two_processes.py']  # scripts that tests start


@pytest.fixture(autouse=True)
def environment(monkeypatch) -> None:
    """Have what a command sets for its own process be gone after a test that runs one in this process."""
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '0')
    monkeypatch.delenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD')


@pytest.fixture(scope='module')
def browser() -> Iterator[Any]:
    """Return a browser that Playwright drives."""
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.fail(f'a browser is needed to test the pages: one of {", ".join(BROWSERS)} on PATH')
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=path) as browser:
        yield browser


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
def launch(tmp_path, monkeypatch, capfd) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Return a function that runs `train.main` or `test.main` on options in this process, in the folder `root`.

    It returns status, stdout and stderr, which the log is part of.
    """
    root = tmp_path / 'root'
    root.mkdir()
    monkeypatch.chdir(root)
    for pipeline in (test_pipeline, train_pipeline):
        for name, value in list(vars(pipeline).items()):
            monkeypatch.setattr(pipeline, name, value)  # what the entry points replace comes back
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run(main: Callable, opt: Options | str, *args: str) -> tuple[int, str, str]:
        (tmp_path / 'opt.yml').write_text(opt if isinstance(opt, str) else yaml.safe_dump(opt))
        monkeypatch.setattr('sys.argv', ['train.py', '-opt', str(tmp_path / 'opt.yml'), *args])
        close_log()
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            run_command(main)
        return end.value.code or 0, *capfd.readouterr()

    yield run
    close_log()
    for number, handler in handlers.items():
        signal.signal(number, handler)


def close_log() -> None:
    """Have BasicSR open a new log file at the first line of the next run."""
    logger = logging.getLogger('basicsr')
    for handler in list(logger.handlers):
        handler.close()
        logger.removeHandler(handler)
    initialized_logger.clear()


@pytest.fixture
def command(data, launch) -> Callable[..., tuple[int, str, str]]:
    """Return `launch`, of which nothing may have been written."""

    def run(*args: Any) -> tuple[int, str, str]:
        result = launch(*args)
        assert list((data / 'root').iterdir()) == []
        return result

    return run
