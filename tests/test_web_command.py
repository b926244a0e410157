"""`facesr web`: its options, and the folder that is gone in the end. No Gradio here."""

import os
import signal
from pathlib import Path

import pytest

from facesr_plugin.commands import web
from facesr_plugin.errors import UserError
from facesr_plugin.web.folder import ended_by_signals, own_folder


@pytest.mark.parametrize(
    ('options', 'expected'),
    [
        (['--port', '70000'], '--port: 0 to 65535 expected, got 70000'),
        (['--megapixels', '0'], '--megapixels: above 0 expected, got 0'),
        (['--megapixels', 'nan'], '--megapixels: above 0 expected, got nan'),
    ],
)
def test_wrong_options(options, expected):
    with pytest.raises(UserError) as told:
        web.main(options)
    assert str(told.value) == expected


def test_the_folder_is_of_its_user_alone_and_is_gone_in_the_end(monkeypatch):
    monkeypatch.setenv('GRADIO_SHARE', 'True')
    monkeypatch.delenv('GRADIO_TEMP_DIR', raising=False)
    folders = []

    def interrupted(folder: Path) -> None:
        folders.append(folder)
        assert folder.stat().st_mode & 0o777 == 0o700
        assert (os.environ['GRADIO_TEMP_DIR'], os.environ['GRADIO_SHARE']) == (str(folder), 'False')
        (folder / 'a').mkdir()
        (folder / 'a' / 'picture.png').write_bytes(b'')
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), own_folder() as folder:
        interrupted(folder)
    assert not folders[0].exists()
    assert ('GRADIO_TEMP_DIR' in os.environ, os.environ['GRADIO_SHARE']) == (False, 'True')


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGHUP])
def test_signals_end_it_by_an_exit(number):
    inherited = signal.signal(number, signal.SIG_DFL)  # under nohup SIGHUP is ignored
    try:
        with pytest.raises(SystemExit) as end, ended_by_signals():
            signal.raise_signal(number)
        assert (end.value.code, signal.getsignal(number)) == (143, signal.SIG_DFL)
    finally:
        signal.signal(number, inherited)


def test_nohup_is_heeded():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ended_by_signals():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
