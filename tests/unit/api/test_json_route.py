"""JSON by the letter."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.json_route import parse_json
from api.problems import MalformedJson

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=20,
)


class TestParseJson:
    @given(VALUES)
    def test_json_is_read_as_it_was_written(self, value: Any):
        assert parse_json(json.dumps(value).encode()) == value

    @given(st.binary())
    def test_everything_else_is_malformed_and_nothing_worse(self, body: bytes):
        with contextlib.suppress(MalformedJson):
            json.dumps(parse_json(body), allow_nan=False)

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"NaN",
            b"[Infinity]",
            b"-Infinity",
            b"1e400",
            b"[-1e400]",
            b'{"a": 1, "a": 1}',
            b'{"a": {"\\u0062": 1, "b": 1}}',
            b'{"\\udc00": 1}',
            b"\xff",
            b"\xef\xbb\xbf{}",
            b"[" * 1_000_000,
            b"9" * 10_000,
        ],
        ids=lambda body: repr(body[:16]),
    )
    def test_what_python_alone_would_read_is_refused(self, body: bytes):
        with pytest.raises(MalformedJson):
            parse_json(body)
