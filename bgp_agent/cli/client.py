"""Asking the agent over HTTP: the standard library's client, one connection a question, everything bounded."""

from __future__ import annotations

import http.client
import socket
from typing import Final, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec

from bgp_agent.cli.answers import Refusal
from bgp_agent.cli.main import WRONG, CommandError

TIMEOUT: Final = 15.0
"""Seconds to wait for the agent; its slowest answer is a probe that nobody answers."""
BODY: Final = 64 * 1024 * 1024
"""Bytes of the longest answer: 10,000 routes are 5 MiB."""
_Answer = TypeVar("_Answer")


class Agent:
    """The agent at a URL. Every method raises :class:`CommandError` in words."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        try:
            parts = urlsplit(self._url)
            self._host, self._port = parts.hostname or "", parts.port or 80
        except ValueError:
            parts, self._host, self._port = urlsplit(""), "", 0
        self._base = parts.path
        if parts.scheme != "http" or not self._host or parts.query or parts.fragment:
            raise CommandError(f"{url!r} is no URL of an agent: write it as http://127.0.0.1:9179", WRONG)

    def ask(self, path: str, kind: type[_Answer], **query: str | int | None) -> tuple[bytes, _Answer]:
        """Ask for ``path``; the body as it came, and read as ``kind``."""
        given = {name.rstrip("_"): value for name, value in query.items() if value is not None}
        status, body = self._get(path + (f"?{urlencode(given)}" if given else ""))
        if status != 200:
            raise CommandError(self._refusal(status, body), WRONG if status == 400 else 1)
        try:
            return body, msgspec.json.decode(body, type=kind)
        except msgspec.DecodeError as error:
            raise CommandError(
                f"what answers at {self._url} is no bgp-agent, or one of another version ({path}: {error}): check --url"
            ) from None

    def _get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT)
        try:
            connection.request("GET", self._base + path, headers={"Accept": "application/json"})
            response = connection.getresponse()
            return response.status, response.read(BODY)
        except TimeoutError:
            raise CommandError(
                f"the agent at {self._url} did not answer within {TIMEOUT:g} s: is its process stopped or overloaded?"
            ) from None
        except socket.gaierror as error:
            raise CommandError(f"{self._host!r} cannot be resolved ({error.strerror}): check --url") from None
        except ConnectionRefusedError:
            raise CommandError(
                f"no agent answers at {self._url}: is `bgp-agent run` started? "
                "Its http.listen is where it answers; --url or -c FILE names another place"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise CommandError(f"asking {self._url} failed: {str(error) or type(error).__name__}") from None
        finally:
            connection.close()

    def _refusal(self, status: int, body: bytes) -> str:
        try:
            told = msgspec.json.decode(body, type=Refusal)
        except msgspec.DecodeError:
            return f"{self._url} answered {status}: is it a bgp-agent? Check --url"
        return f"{told.error}" + (f": {told.remedy}" if told.remedy else "")
