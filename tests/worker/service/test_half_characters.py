"""A lone surrogate is refused with the name of the field that holds it."""

import pytest
from m0_worker.http.errors import HttpError
from m0_worker.http.strict_json import parse_object


@pytest.mark.parametrize(
    ("body", "name"),
    [(rb'{"job_id":"\ud800"}', "job_id"), (rb'{"stop":["a","\udc00"]}', "stop"), (rb'{"a\ud800":1}', r"a\ud800")],
)
def test_the_field_is_named(body: bytes, name: str) -> None:
    with pytest.raises(HttpError) as refused:
        parse_object(body)
    assert f"{name} holds a lone surrogate" in str(vars(refused.value)) + str(refused.value)
