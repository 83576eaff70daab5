"""What the local api and worker find in their environment."""

import os
from collections.abc import Mapping
from pathlib import Path

from local import tokens

HOST = "127.0.0.1"
QUEUE = "scenario-events"
DEAD_LETTER_QUEUE = "scenario-events-dead"
REGION = "eu-central-1"

# What belongs to real accounts: nothing may leave this machine because a shell happens to know one.
FOREIGN = (
    "APPRISE_",
    "AWS_",
    "EMAIL_",
    "OUTBOUND_",
    "SES_",
    "SLACK_",
    "SMS_",
    "SMTP_",
    "SNS_",
    "SQS_",
    "TWILIO_",
    "WEBHOOK_",
)


def build_environment(
    *,
    directory: Path,
    port: int,
    sqs_endpoint: str,
    channels: Mapping[str, str],
    encryption_key: str,
) -> dict[str, str]:
    """Return the environment of api and worker, but for their databases.

    Args:
        directory: Where the system keeps its data.
        port: The api's port on 127.0.0.1.
        sqs_endpoint: Where its SQS listens.
        channels: The settings of the channels.
        encryption_key: What encrypts addresses.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return {
        **inherited,
        **channels,
        "SQS_ENDPOINT_URL": sqs_endpoint,
        "SQS_QUEUE_NAME": QUEUE,
        "SQS_DEAD_LETTER_QUEUE_NAME": DEAD_LETTER_QUEUE,
        "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "JWT_SECRET": tokens.ensure_secret(directory),
        "JWT_ISSUER": tokens.ISSUER,
        "JWT_AUDIENCE": tokens.AUDIENCE,
        "ENCRYPTION_KEYS": encryption_key,
        "HOST": HOST,
        "PORT": str(port),
        # What links in messages begin with.
        "PUBLIC_URL": f"http://{HOST}:{port}",
        # Whoever tries things out, or measures, is one user who may do what thousands do.
        "RATE_LIMIT_READS": "1000000",
        "RATE_LIMIT_WRITES": "1000000",
        "LOG_FORMAT": "console",
        "WORKER_HEALTH_FILE": str(health_file(directory)),
        # The local SQS forgets its messages when it ends: do not let anyone wait a minute for theirs.
        "WORKER_RECONCILE_AFTER": "10",
        "WORKER_RECONCILE_INTERVAL": "5",
        # Ctrl-C is to end everything within ten seconds, whatever is under way.
        "WORKER_POLL_WAIT": "1",
        "SQS_CALL_TIMEOUT": "3",
        "WORKER_GRACE_PERIOD": "5",
        "DELIVERY_SEND_TIMEOUT": "4",
        "SHUTDOWN_TIMEOUT": "3",
        "RELAY_DRAIN_TIMEOUT": "2",
        "PYTHONUNBUFFERED": "1",
    }


def health_file(directory: Path) -> Path:
    """Return the file by which the worker says that it is well."""
    return directory / "worker-health"
