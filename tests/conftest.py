"""One thread a process: the tests run on both cores, and threads of two processes spin on each other."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
