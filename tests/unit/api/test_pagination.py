"""Cursors: opaque, and good for one user, list and filter."""

import base64
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.pagination import InvalidCursor, PageQuery, Window
from shared.ids import new_id
from shared.models import User


class Query(PageQuery):
    label: str | None = None


class OtherQuery(PageQuery):
    label: str | None = None


ME = User(tenant_id=new_id(), id=new_id())
SOMEBODY_ELSE = User(tenant_id=ME.tenant_id, id=new_id())


def cursor_after(key: object, query: PageQuery, me: User, *path: UUID) -> str:
    window = Window.of(query.model_copy(update={"limit": 1}), me, *path)
    cursor = window.cut([key, None], key=lambda row: row).next_cursor
    assert cursor is not None
    return cursor


class TestWindow:
    def test_a_cursor_leads_to_where_the_page_ended(self):
        key = new_id()

        window = Window.of(Query(cursor=cursor_after(key, Query(), ME)), ME)

        assert window.after_id == key

    def test_the_size_of_the_page_may_change_on_the_way(self):
        key = new_id()

        window = Window.of(Query(limit=100, cursor=cursor_after(key, Query(limit=1), ME)), ME)

        assert (window.after_id, window.fetch) == (key, 101)

    def test_another_user_list_filter_or_path_is_refused(self):
        scenario_id = new_id()
        cursor = cursor_after(new_id(), Query(label="a"), ME, scenario_id)

        for query, me, path in [
            (Query(label="a", cursor=cursor), SOMEBODY_ELSE, scenario_id),
            (OtherQuery(label="a", cursor=cursor), ME, scenario_id),
            (Query(label="b", cursor=cursor), ME, scenario_id),
            (Query(cursor=cursor), ME, scenario_id),
            (Query(label="a", cursor=cursor), ME, new_id()),
        ]:
            with pytest.raises(InvalidCursor):
                Window.of(query, me, path)

    @given(st.text(min_size=1, max_size=512))
    def test_what_was_not_issued_is_refused(self, cursor: str):
        with pytest.raises(InvalidCursor):
            Window.of(Query.model_construct(cursor=cursor), ME)

    @given(st.binary(max_size=64))
    def test_a_forged_key_is_refused_or_only_a_place_in_my_own_list(self, key: bytes):
        binding = Window.of(Query(), ME).binding
        forged = base64.urlsafe_b64encode(binding + key).decode().rstrip("=")

        try:
            window = Window.of(Query(cursor=forged), ME)
            assert window.after_id is None or isinstance(window.after_id, UUID)
        except InvalidCursor:
            return
        assert window.after is not None
        assert "\x00" not in window.after


class TestCut:
    @pytest.mark.parametrize(("found", "shown"), [(0, 0), (1, 1), (2, 2)])
    def test_what_fits_is_the_last_page(self, found: int, shown: int):
        page = Window.of(Query(limit=2), ME).cut(range(found), key=str)

        assert (len(page.rows), page.has_more, page.next_cursor) == (shown, False, None)

    def test_one_row_more_tells_that_there_is_a_next_page(self):
        page = Window.of(Query(limit=2), ME).cut(range(3), key=str)

        assert (len(page.rows), page.has_more) == (2, True)
        assert page.next_cursor
