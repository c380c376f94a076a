"""numpy, named once. Only the scheduler's process pays for importing it."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]

__all__ = ["Array", "np"]
