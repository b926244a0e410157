"""Time this plugin beside stock BasicSR and Real-ESRGAN: `python scripts/benchmark.py --help`."""

from benchmark.command import main
from facesr_plugin.errors import run_command

if __name__ == '__main__':
    run_command(main)
