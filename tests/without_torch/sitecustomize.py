"""On PYTHONPATH: Python finds no torch. Commands run as for users, who have not installed it."""

import sys

sys.modules["torch"] = None
