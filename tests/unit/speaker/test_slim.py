from __future__ import annotations

import subprocess
import sys


def test_host_carries_nothing_that_it_does_not_need() -> None:
    code = "import bgp_agent.speaker.__main__, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"pydantic", "aiohttp", "structlog", "msgspec", "yaml", "rich", "ssl", "_hashlib", "ctypes", "exabgp"}
    assert not heavy & set(loaded)


def test_ssl_stays_importable_and_asyncio_whole_for_everybody_else() -> None:
    code = "import bgp_agent.speaker.slim, ssl, asyncio; asyncio.run(asyncio.sleep(0)); print(ssl.OPENSSL_VERSION)"
    assert "SSL" in subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
