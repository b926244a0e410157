"""facesr_plugin/files.py on Windows, which opens no folder and syncs no file that is open for reading only."""

import errno
import os

import pytest

from facesr_plugin import files


@pytest.fixture
def windows(monkeypatch):
    """Stand in for Windows where files are concerned."""
    opened, flags_of = os.open, {}

    def open_(path, flags, *rest, **more):
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, 'Permission denied', str(path))
        descriptor = opened(path, flags, *rest, **more)
        flags_of[descriptor] = flags
        return descriptor

    def fsync(descriptor):
        if descriptor in flags_of and not flags_of[descriptor] & (os.O_RDWR | os.O_WRONLY):
            raise OSError(errno.EBADF, 'Bad file descriptor')

    monkeypatch.setattr(os, 'open', open_)
    monkeypatch.setattr(os, 'fsync', fsync)
    return monkeypatch


def test_replaces_a_file_on_windows(windows, tmp_path):
    path = tmp_path / 'a.pth'
    path.write_bytes(b'old')
    with pytest.raises(PermissionError):  # it is hidden
        files.replace_file(path, b'new')
    windows.setattr(files, 'IS_WINDOWS', True)
    files.replace_file(path, b'newer')
    files.sync(path)
    assert path.read_bytes() == b'newer'
    assert [file.name for file in tmp_path.iterdir()] == ['a.pth']
