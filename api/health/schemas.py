"""What the health endpoints say."""

from api.schemas import Output


class Liveness(Output):
    """The process answers."""

    status: str


class ReadinessReport(Output):
    """Whether requests should be sent here, and what stands in the way: one word per check, `ok` where nothing does."""

    status: str
    checks: dict[str, str]

    @property
    def is_ready(self) -> bool:
        """Whether requests should be sent here."""
        return self.status == "ready"
