"""Ctrl-C: the first ends a training, and a second soon after it ends everything."""

from __future__ import annotations

import math
import time

#: A Ctrl-C within this many seconds of the one before is the second.
SECONDS = 2.0

_last = -math.inf


def is_second() -> bool:
    """Note a Ctrl-C, and tell whether the one before it was less than `SECONDS` ago.

    The first may have ended another training, for example in a loop over fits.
    """
    global _last
    now = time.monotonic()
    before, _last = _last, now
    return now - before < SECONDS
