"""What the scripts share. The first of it that a script imports has the process started again with huge pages."""

from experiments.common.startup import keep_memory

keep_memory()
