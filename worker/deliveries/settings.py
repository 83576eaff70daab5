"""How deliveries are sent; the values come from environment variables."""

from datetime import timedelta

from pydantic import Field

from shared.settings import Duration, ExpirySettings

# Ends a transaction that nothing else ended.
TRANSACTION_TIMEOUT = timedelta(seconds=10)


class DeliverySettings(ExpirySettings):
    """How many messages are sent at once, how long each may take, and when to give up."""

    email_concurrency: int = Field(default=20, ge=1, description="E-mails one worker sends at the same time.")
    slack_concurrency: int = Field(default=20, ge=1, description="Slack messages one worker sends at the same time.")
    sms_concurrency: int = Field(default=20, ge=1, description="SMS one worker sends at the same time.")
    webhook_concurrency: int = Field(default=300, ge=1, description="Webhooks one worker calls at the same time.")
    apprise_concurrency: int = Field(default=10, ge=1, description="Apprise messages one worker sends at a time.")
    endpoint_concurrency: int = Field(
        default=10, ge=1, description="Messages on their way to one server at most, of those that users name."
    )
    send_timeout: Duration = Field(
        default=timedelta(seconds=20), description="How long one message may take, whatever the channel allows itself."
    )
    lease: Duration = Field(
        default=timedelta(seconds=60), description="After how long a claimed delivery counts as lost by its worker."
    )
    poll_interval: Duration = Field(
        default=timedelta(seconds=1),
        description="How often to look for deliveries that are due; own fan-outs are seen at once.",
    )
    disable_after: Duration = Field(
        default=timedelta(days=5), description="How long a server that a user named may fail before it is disabled."
    )

    def concurrency_of(self, channel: str) -> int:
        """Return how many messages of the channel one worker sends at the same time."""
        limit: int = getattr(self, f"{channel}_concurrency")
        return limit
