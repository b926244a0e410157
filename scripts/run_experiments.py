"""Train a grid of option files and seeds, and collect one table: `python scripts/run_experiments.py --help`."""

from experiments.command import main
from facesr_plugin.errors import run_command

if __name__ == '__main__':
    run_command(main)
