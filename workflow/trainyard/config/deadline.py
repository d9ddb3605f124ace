"""When trainings should save and leave: a time, or a budget from now."""

import re
import time
from datetime import datetime

BUDGET = re.compile(r"(?:(\d+(?:\.\d+)?)h)?\s*(?:(\d+(?:\.\d+)?)m)?")


def read_deadline(text: str, now: float | None = None) -> float:
    """Seconds since the epoch of a time ("2026-11-24T18:00", "18:00": the next one) or a budget from now ("7h30m", "45m").

    A time without a zone is this machine's. Raises ValueError.
    """
    now = time.time() if now is None else now
    text = text.strip()
    budget = BUDGET.fullmatch(text)
    if budget and any(budget.groups()):
        hours, minutes = (float(part or 0) for part in budget.groups())
        return now + 3600 * hours + 60 * minutes
    if re.fullmatch(r"\d{1,2}:\d{2}", text):
        hour, minute = map(int, text.split(":"))
        if hour < 24 and minute < 60:
            today = datetime.fromtimestamp(now).replace(hour=hour, minute=minute, second=0, microsecond=0).timestamp()
            return today if today > now else today + 86400
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise ValueError(f"deadline: '{text}' is neither a time (2026-11-24T18:00, 18:00) nor a budget (7h30m, 45m)") from None
