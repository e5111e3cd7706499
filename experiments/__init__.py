"""The scripts, one for each experiment."""

import importlib.util

if importlib.util.find_spec("ml_collections") is None:
    raise ModuleNotFoundError("the scripts need packages that this Python does not have: activate the environment in "
                              "which they are (. .venv/bin/activate), or pip install -r requirements.txt")
