"""The benchmark of a request's way through the code sees the code that answers it, in all threads."""

from benchmarks.path import trails


def test_each_kind_of_request_is_followed() -> None:
    found = {kind: set(modules) for kind, (_, _, modules) in trails(1).items()}
    assert {"web/update.py", "policy/decide.py"} <= found["check"] - found["hit"]
    assert {"web/package.py", "web/sending.py"} <= found["hit"] - found["check"]
    assert {"upstream/http.py", "payload/operation_digests.py"} <= found["miss"] - found["hit"]
