"""What the scripts share. The first of it that a script imports starts the process again with huge pages."""

from experiments.common.startup import keep_memory

keep_memory()
