"""A password file that is lost takes no session with it, and one that was never there lets none up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bgp_agent.passwords import Passwords


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "key"


def test_a_file_that_was_never_read_is_a_problem_and_no_empty_key(file: Path) -> None:
    key, problem = Passwords().read(str(file))
    assert key is None
    assert (
        problem == f"password_file {file} is not there; a session that stands goes on, none begins until it can be read"
    )


def test_one_trailing_newline_is_dropped(file: Path) -> None:
    file.write_bytes(b"s3cret\n\n")
    assert Passwords().read(str(file))[0] is None, "the second one is no printable character"
    file.write_bytes(b"s3cret\n")
    assert Passwords().read(str(file)) == ("s3cret", None)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "is not there"),
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\xff\x00", "something else than printable ASCII"),
        (b"x" * 81, "more than 80 bytes"),
        (b"x" * 100_000, "more than 80 bytes"),
    ],
)
def test_the_last_good_key_goes_on_and_says_so(file: Path, content: bytes | None, why: str) -> None:
    passwords = Passwords()
    file.write_text("s3cret")
    passwords.read(str(file))
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    assert passwords.read(str(file)) == ("s3cret", None)
    assert why in passwords.lost[str(file)]
    assert "s3cret" not in passwords.lost[str(file)]
    file.write_text("other")
    assert passwords.read(str(file)) == ("other", None)
    assert not passwords.lost


def test_a_directory_in_its_place_is_no_key(file: Path) -> None:
    file.mkdir()
    assert "cannot be read" in str(Passwords().read(str(file))[1])


def test_a_pipe_in_its_place_is_no_key_and_blocks_nobody(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    key, why = Passwords().read(str(pipe))
    assert key is None
    assert "is no file" in (why or "")


def test_a_key_is_forgotten_with_its_peer(file: Path) -> None:
    passwords = Passwords()
    file.write_text("s3cret")
    passwords.read(str(file))
    file.unlink()
    passwords.read(str(file))
    passwords.keep(set())
    assert not passwords.lost
    assert passwords.read(str(file))[0] is None
