import os

# One thread a process: the suite runs as many processes as there are cores, and tiny sizes gain nothing from threads.
os.environ.setdefault('OMP_NUM_THREADS', '1')

import facesr_plugin  # noqa: F401  (before any test imports BasicSR: it makes BasicSR importable)

collect_ignore = ['run_and_break.py', 'two_processes.py']  # scripts that tests start
