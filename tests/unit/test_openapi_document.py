import json
from pathlib import Path

from api.openapi import build_document
from tests.breaking_changes import find_breaking_changes

ROOT = Path(__file__).resolve().parents[2]


def test_the_committed_document_is_the_one_the_api_serves():
    committed = json.loads((ROOT / "openapi.json").read_text())

    assert committed == build_document(), "Run `make openapi` and commit openapi.json with the change."


def test_clients_of_the_released_document_get_along_with_this_one():
    released = json.loads((ROOT / "openapi.released.json").read_text())

    assert find_breaking_changes(released, build_document()) == []
