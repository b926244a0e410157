"""What numbers hold for: the hardware, and the commit of this checkout."""

import platform
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def cpu_name() -> str:
    """Return the processor's name."""
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(':')[1].strip() for line in lines if line.startswith('model name')), platform.machine())


def commit() -> str | None:
    """Return the checkout's commit, marked if code or options differ from it; None outside a repository."""
    try:
        name = _git('rev-parse', '--short', 'HEAD')
        changed = _git('status', '--porcelain', '--', 'facesr_plugin', 'scripts', 'options')
    except (OSError, subprocess.CalledProcessError):
        return None
    return f'{name}-dirty' if changed else name


def _git(*args: str) -> str:
    command = ['git', '-C', str(ROOT), *args]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
