"""What can be wrong with a request about scenarios."""

from http import HTTPStatus

from api.problems import Problem


class ScenarioNotFound(Problem):
    """No scenario of yours has this id."""

    status = HTTPStatus.NOT_FOUND
    code = "scenario_not_found"
    title = "Scenario not found"
