"""What came to the sinks of the local system: the last messages, as JSON and as a page to look at."""

from collections import deque
from dataclasses import asdict, dataclass, field
from datetime import datetime
from html import escape
from typing import Any

from shared.clock import utc_now

MAX_KEPT = 100

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="refresh" content="2">
<title>Messages of the local system</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }}
  table {{ border-collapse: collapse; width: 100%; }}
  th, td {{ border-bottom: 1px solid #ccc; padding: .4rem .6rem; text-align: left; vertical-align: top; }}
  pre {{ margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }}
</style>
<h1>Messages of the local system</h1>
<p>What its channels delivered, newest first; also as <a href="/messages">JSON</a>.</p>
<table>
<thead><tr><th>at (UTC)</th><th>channel</th><th>to</th><th>message</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
</html>
"""
_ROW = """<tr><td>{at:%H:%M:%S}</td><td>{channel}</td><td>{to}</td>
<td><details><summary>{subject}</summary><pre>{text}</pre></details></td></tr>"""
_NOTHING = '<tr><td colspan="4">Nothing has come yet.</td></tr>'


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A message that came.

    Attributes:
        channel: What it came by.
        to: Whom it was for.
        subject: What it says, in one line.
        text: What it says, for people.
        id: By what a receiver tells a repetition, where the channel says so.
        headers: Its headers, or those of the request that brought it.
        content: All of it, as it came.
        received_at: When it came.
    """

    channel: str
    to: str
    subject: str
    text: str
    id: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    content: str = ""
    received_at: datetime = field(default_factory=utc_now)

    def as_line(self) -> str:
        """Return it in one line, fit for a terminal: a message must not move the cursor."""
        line = f"{self.channel:8} {self.to:28} {self.subject}"
        return "".join(character if character.isprintable() else "·" for character in line)


class Inbox:
    """The last messages that came, newest first."""

    def __init__(self) -> None:
        """Begin with none."""
        self._kept: deque[Received] = deque(maxlen=MAX_KEPT)

    def add(self, received: Received) -> None:
        """Keep a message, and forget the oldest when there are too many."""
        self._kept.appendleft(received)

    def as_json(self) -> dict[str, Any]:
        """Return the messages in the form of the API's lists."""
        return {
            "data": [{**asdict(received), "received_at": received.received_at.isoformat()} for received in self._kept]
        }

    def as_page(self) -> str:
        """Return a page that shows the messages and looks again by itself."""
        rows = [
            _ROW.format(
                at=received.received_at,
                channel=escape(received.channel),
                to=escape(received.to),
                subject=escape(received.subject),
                text=escape(received.text),
            )
            for received in self._kept
        ]
        return _PAGE.format(rows="\n".join(rows) or _NOTHING)
