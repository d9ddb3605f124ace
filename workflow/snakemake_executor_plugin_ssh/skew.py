"""Whether a host's time of day will do. Nothing here depends on it; but storages refuse requests whose signature is of another time."""

import time

from .openssh import Refused

MOST = 600.0  # seconds; Amazon's S3 and rclone's refuse 15 minutes


def check_time(there: float) -> None:
    """`there`: what a host has just said, seconds since the epoch. Refused: it is too far from ours."""
    ahead = there - time.time()
    if abs(ahead) <= MOST:
        return
    hours, minutes = divmod(round(abs(ahead) / 60), 60)
    raise Refused(
        f"its clock is {f'{hours} h ' if hours else ''}{minutes} min {'ahead of' if ahead > 0 else 'behind'} this machine's, and storages "
        "refuse what is signed at another time: set it there (sudo timedatectl set-ntp true), or here, if this one is wrong"
    )
