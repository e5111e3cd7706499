"""What the scripts share.

The first of it that a script imports starts the process again with an allocator that keeps its pages.
"""

from experiments.common.startup import keep_memory

keep_memory()
