"""The tables, one per file, with the rules by which their state moves."""

from shared.models.api_key import ApiKey
from shared.models.api_key_audit_entry import ApiKeyAction, ApiKeyAuditEntry
from shared.models.base import Base
from shared.models.contact_point import ContactPoint, DisabledReason
from shared.models.delivery import Delivery, DeliveryReason, DeliveryStatus
from shared.models.delivery_attempt import AttemptResult, DeliveryAttempt
from shared.models.event import Event
from shared.models.event_type import EventType
from shared.models.execution import Execution, Outcome
from shared.models.idempotency_key import IdempotencyKey
from shared.models.notification_subscription import NotificationSubscription, SubscriptionLevel
from shared.models.recorder import DomainEvent, Recorder
from shared.models.send_quota import SendPurpose, SendQuota
from shared.models.tenant import Tenant
from shared.models.test_scenario import ScenarioCreated, ScenarioDeleted, ScenarioExecuted, TestScenario
from shared.models.user import User
from shared.models.user_notification import Reason, UserNotification

__all__ = [
    "ApiKey",
    "ApiKeyAction",
    "ApiKeyAuditEntry",
    "AttemptResult",
    "Base",
    "ContactPoint",
    "Delivery",
    "DeliveryAttempt",
    "DeliveryReason",
    "DeliveryStatus",
    "DisabledReason",
    "DomainEvent",
    "Event",
    "EventType",
    "Execution",
    "IdempotencyKey",
    "NotificationSubscription",
    "Outcome",
    "Reason",
    "Recorder",
    "ScenarioCreated",
    "ScenarioDeleted",
    "ScenarioExecuted",
    "SendPurpose",
    "SendQuota",
    "SubscriptionLevel",
    "Tenant",
    "TestScenario",
    "User",
    "UserNotification",
]
