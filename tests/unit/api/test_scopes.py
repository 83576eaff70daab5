"""Every question to the database says whose rows it is about: a rule that is read off the code."""

import ast
from pathlib import Path

import pytest

import api

REPOSITORIES = sorted(Path(api.__file__).parent.glob("*/repository.py"))

# What a function of a repository may take first: who asks, or what a token or a link says of them.
SCOPES = {"Caller", "Identity", "Program", "Unsubscription", "User", "User | Program"}

UNSCOPED = {
    ("event_types", "get_event_type"): "the catalogue is the same for all tenants",
    ("event_types", "list_event_types"): "the catalogue is the same for all tenants",
}


UNSCOPED_MODULES = {
    "api_keys.py": "a key says whose it is, and is looked up to learn that",
    "relay.py": "the outbox is that of all tenants",
}


def public_functions(path: Path) -> list[ast.AsyncFunctionDef | ast.FunctionDef]:
    """Return what the services can call. What is private gets its scope from these, or ruff finds it unused."""
    return [
        node
        for node in ast.parse(path.read_text()).body
        if isinstance(node, (ast.AsyncFunctionDef, ast.FunctionDef)) and not node.name.startswith("_")
    ]


def takes_scope_first(function: ast.AsyncFunctionDef | ast.FunctionDef) -> bool:
    parameters = [*function.args.posonlyargs, *function.args.args]
    annotation = parameters[0].annotation if parameters else None
    return annotation is not None and ast.unparse(annotation) in SCOPES


@pytest.mark.parametrize("path", REPOSITORIES, ids=lambda path: path.parent.name)
def test_every_function_of_a_repository_takes_the_scope_first(path: Path):
    feature = path.parent.name

    unscoped = {
        (feature, function.name) for function in public_functions(path) if not takes_scope_first(function)
    } - UNSCOPED.keys()

    assert unscoped == set()


def test_every_exception_is_still_needed():
    functions = {
        (path.parent.name, function.name): function for path in REPOSITORIES for function in public_functions(path)
    }

    assert all(key in functions and not takes_scope_first(functions[key]) for key in UNSCOPED)


def test_nobody_but_repositories_puts_questions_unless_there_is_a_reason():
    """Services add objects to the session, and leave every query to their repository."""
    asking = {"execute", "scalar", "scalars", "stream", "get", "get_one"}
    found = {
        str(path.relative_to(Path(api.__file__).parent))
        for path in Path(api.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in asking
        and ast.unparse(node.func.value).split(".")[-1] in {"session", "connection"}
    }

    assert {name for name in found if not name.endswith("/repository.py")} == UNSCOPED_MODULES.keys()
