"""On PYTHONPATH: Python finds no torch. Commands run as for users, who have not installed it.

It costs each of them seconds, too: where torch is found, TensorBoard's writer imports it.
"""

import sys

sys.modules["torch"] = None
