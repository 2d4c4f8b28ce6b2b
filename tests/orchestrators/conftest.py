"""The folder of these tests is where a user's module is found."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
