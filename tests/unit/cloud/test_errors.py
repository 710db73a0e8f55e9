from __future__ import annotations

import email.utils
import json
import time

from hypothesis import given
from hypothesis import strategies as st

from bgp_agent.cloud.errors import (
    LOCK_WAIT,
    MAX_WAIT,
    MAX_WORDS,
    Busy,
    CloudError,
    Denied,
    Trouble,
    clean,
    refusal,
    retry_after,
)


def test_a_missing_right_is_read_from_azures_words() -> None:
    words = (
        "The client 'c' with object id 'o' does not have authorization to perform action "
        "'Microsoft.Network/routeTables/read' over scope '/subscriptions/s' or the scope is invalid."
    )
    found = refusal("GET x", 403, {}, json.dumps({"error": {"code": "AuthorizationFailed", "message": words}}).encode())
    assert isinstance(found, Denied)
    assert (found.action, found.scope) == ("Microsoft.Network/routeTables/read", "/subscriptions/s")


def test_of_a_linked_right_the_one_that_is_missing_is_read() -> None:
    words = (
        "The client 'c' has permission to perform action 'Microsoft.Network/networkInterfaces/write' on scope '/a'; "
        "however, it does not have permission to perform action(s) "
        "'Microsoft.Network/virtualNetworks/subnets/join/action' on the linked scope(s) '/b' (respectively) or "
        "the linked scope(s) are invalid."
    )
    body = json.dumps({"error": {"code": "LinkedAuthorizationFailed", "message": words}}).encode()
    found = refusal("PUT x", 403, {}, body)
    assert isinstance(found, Denied)
    assert (found.action, found.scope) == ("Microsoft.Network/virtualNetworks/subnets/join/action", "/b")


def test_a_lock_tells_in_its_header_or_its_words_or_not_at_all_how_long_it_lasts() -> None:
    def wait(headers: dict[str, str], message: str) -> float:
        inner = {"code": "RetryableErrorDueToAnotherOperation", "message": message}
        body = {"error": {"code": "RetryableError", "message": "A retryable error occurred.", "details": [inner]}}
        found = refusal("PUT x", 429, headers, json.dumps(body).encode())
        assert isinstance(found, Busy)
        return found.retry_after

    assert wait({"Retry-After": "7"}, "can be retried in 9 seconds") == 7
    assert wait({}, "The call can be retried in 9 seconds.") == 9
    assert wait({}, "busy") == LOCK_WAIT


def test_retry_after_is_read_in_both_forms_and_bounded() -> None:
    assert retry_after({"Retry-After": "5"}) == 5.0
    assert retry_after({"Retry-After": "0"}) == 0.0
    assert retry_after({"Retry-After": "9" * 5000}) == MAX_WAIT
    assert 8 < (retry_after({"Retry-After": email.utils.formatdate(time.time() + 10, usegmt=True)}) or 0) <= 10
    assert retry_after({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0
    for nonsense in ("", "-1", "1.5", "soon", "inf", "nan", "Wed, 99 Oct 99999 07:28:00 GMT", "\u0663"):
        assert retry_after({"Retry-After": nonsense}) is None
    assert retry_after({}) is None


@given(st.text() | st.binary())
def test_somebody_elses_words_are_one_bounded_line(text: object) -> None:
    words = clean(text)
    assert len(words) <= MAX_WORDS
    assert words == "" or words.isprintable()


def test_no_token_is_repeated() -> None:
    assert "secret" not in clean("failed with eyJhbGciOiJIUzI1NiJ9secret.c2VjcmV0.secret-secret_ at")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["error", "code", "message", "details"]) | st.text(max_size=5), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(st.integers(300, 599), st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
def test_every_answer_is_some_refusal(status: int, body: bytes) -> None:
    found = refusal("GET x", status, {"Retry-After": "3"}, body)
    assert isinstance(found, CloudError)
    assert str(found).startswith("GET x: ")
    if b"error" not in body:
        assert isinstance(found, Trouble)
