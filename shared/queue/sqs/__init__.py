"""The queue on Amazon SQS, or on whatever speaks its protocol."""

from shared.queue.sqs.adapter import SqsQueue, open_sqs
from shared.queue.sqs.client import SqsConfig, open_client
from shared.queue.sqs.setup import QueueChange, create_queues

__all__ = ["QueueChange", "SqsConfig", "SqsQueue", "create_queues", "open_client", "open_sqs"]
