"""What can be wrong with a request about subscriptions."""

from http import HTTPStatus

from api.problems import Problem


class EventTypeMandatory(Problem):
    """This event type reaches every user of the tenant and cannot be disabled."""

    status = HTTPStatus.CONFLICT
    code = "event_type_mandatory"
    title = "Event type is mandatory"
