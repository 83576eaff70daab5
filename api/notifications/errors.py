"""What can be wrong with a request about notifications."""

from http import HTTPStatus

from api.problems import Problem


class NotificationNotFound(Problem):
    """No notification of yours has this id."""

    status = HTTPStatus.NOT_FOUND
    code = "notification_not_found"
    title = "Notification not found"
