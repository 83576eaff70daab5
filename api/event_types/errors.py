"""What can be wrong with a request about event types."""

from http import HTTPStatus

from api.problems import Problem


class EventTypeNotFound(Problem):
    """No event type has this name; `GET /v1/event-types` lists them all."""

    status = HTTPStatus.NOT_FOUND
    code = "event_type_not_found"
    title = "Event type not found"
