"""Drain, undrain and stop: what is promised on the control socket, and what outlives a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from bgp_agent.draining import MARK, Control


class Agent:
    """An agent whose peers acknowledge when the test says so; remembers what it was asked, in order."""

    def __init__(self, *, trouble: str | None = None) -> None:
        self.asked: list[str] = []
        self.holders: list[str] = []
        self.trouble = trouble
        self.unmovable: str | None = "there is no route table to hand over to"
        self.looked = asyncio.Event()
        self.undrained = False

    def drain(self, *, on: bool) -> None:
        self.asked.append("drain" if on else "undrain")

    def cannot_move(self) -> str | None:
        return self.unmovable

    async def move(self, progress: Callable[[str], None]) -> str | None:
        progress("the route table takes over")
        self.asked.append("move")
        return None

    def moved_back(self) -> None:
        self.asked.append("move back")

    def drained(self) -> bool:
        return not self.undrained

    def leave_waits_for(self) -> str | None:
        self.looked.set()
        return f"waiting for {' and '.join(self.holders)} to acknowledge the withdrawal" if self.holders else None

    def stop(self) -> None:
        self.asked.append("stop")

    async def stop_speaker(self) -> str | None:
        self.asked.append("stop the speaker")
        return self.trouble


def silent(news: str) -> None:
    """Progress that nobody reads."""
    del news


async def looks(agent: Agent) -> None:
    """Wait until the drain has looked at the acknowledgements once more."""
    agent.looked.clear()
    async with asyncio.timeout(5.0):
        await agent.looked.wait()


async def test_without_a_route_table_a_drain_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    agent = Agent()
    outcome = await Control(agent, tmp_path).drain(force=False, progress=silent)
    assert not outcome.good
    assert "would be cut off; `bgp-agent drain --force`" in outcome.reason
    assert (agent.asked, (tmp_path / MARK).exists()) == ([], False)


async def test_a_forced_drain_is_over_when_every_peer_has_acknowledged(tmp_path: Path) -> None:
    agent, said = Agent(), list[str]()
    agent.holders = ["10.42.0.4", "10.42.0.5"]
    task = asyncio.create_task(Control(agent, tmp_path).drain(force=True, progress=said.append))
    for _ in range(3):
        await looks(agent)
    agent.holders = ["10.42.0.5"]
    await looks(agent)
    assert not task.done()
    agent.holders = []
    outcome = await asyncio.wait_for(task, 5.0)
    assert outcome.good
    assert agent.asked == ["drain", "move back"]
    assert said == [
        "waiting for 10.42.0.4 and 10.42.0.5 to acknowledge the withdrawal",
        "waiting for 10.42.0.5 to acknowledge the withdrawal",
    ], "each news once"


async def test_a_drain_that_is_taken_back_while_it_waits_is_not_said_to_be_done(tmp_path: Path) -> None:
    agent = Agent()
    agent.holders = ["10.42.0.4"]
    task = asyncio.create_task(Control(agent, tmp_path).drain(force=True, progress=silent))
    await looks(agent)
    agent.undrained, agent.holders = True, []
    outcome = await asyncio.wait_for(task, 5.0)
    assert (outcome.good, outcome.reason) == (False, "the drain was taken back meanwhile, by `bgp-agent undrain`")


async def test_a_drain_that_runs_out_of_time_stays_a_drain(tmp_path: Path) -> None:
    agent = Agent()
    agent.holders = ["10.42.0.4"]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(Control(agent, tmp_path).drain(force=True, progress=silent), 0.1)
    assert (tmp_path / MARK).exists()
    assert agent.asked == ["drain", "move back"]


async def test_a_drain_outlives_an_agent_that_is_killed_right_after_it_began(tmp_path: Path) -> None:
    """The mark comes first: a restart in the middle goes on with the drain, it does not announce again."""

    class Killed(Agent):
        def drain(self, *, on: bool) -> None:
            assert on
            assert (tmp_path / MARK).exists()
            raise SystemExit

    with pytest.raises(SystemExit):
        await Control(Killed(), tmp_path).drain(force=True, progress=silent)
    assert (tmp_path / MARK).stat().st_mode & 0o777 == 0o600


async def test_a_drain_that_cannot_be_remembered_changes_nothing(tmp_path: Path) -> None:
    agent = Agent()
    outcome = await Control(agent, tmp_path / "gone").drain(force=True, progress=silent)
    assert not outcome.good
    assert "No such file or directory" in outcome.reason
    assert "make state_dir writable" in outcome.reason
    assert agent.asked == ["move back"]


async def test_an_undrain_forgets_the_drain_also_when_there_was_none(tmp_path: Path) -> None:
    agent = Agent()
    control = Control(agent, tmp_path)
    await control.drain(force=True, progress=silent)
    for _ in range(2):
        outcome = await control.undrain(progress=silent)
        assert (outcome.good, outcome.reason) == (True, "announcing again")
    assert not (tmp_path / MARK).exists()
    assert agent.asked == ["drain", "move back", "undrain", "undrain"]


async def test_a_stop_leaves_the_speaker_alone(tmp_path: Path) -> None:
    agent = Agent()
    outcome = await Control(agent, tmp_path).stop(everything=False, progress=silent)
    assert outcome.good
    assert outcome.reason == "the agent ends; sessions, routes and announcements stay"
    assert agent.asked == ["stop"]


async def test_a_stop_of_everything_ends_the_speaker_first(tmp_path: Path) -> None:
    agent, said = Agent(), list[str]()
    outcome = await Control(agent, tmp_path).stop(everything=True, progress=said.append)
    assert outcome.good
    assert outcome.reason == "the agent ends; the speaker ended too"
    assert (agent.asked, said) == (["stop the speaker", "stop"], ["ending the speaker"])


async def test_a_speaker_that_does_not_end_keeps_the_agent(tmp_path: Path) -> None:
    agent = Agent(trouble="the speaker did not end in 160 s")
    outcome = await Control(agent, tmp_path).stop(everything=True, progress=silent)
    assert (outcome.good, outcome.reason) == (False, "the speaker did not end in 160 s")
    assert agent.asked == ["stop the speaker"]


async def test_an_undrain_that_cannot_be_remembered_announces_and_says_so(tmp_path: Path) -> None:
    agent = Agent()
    (tmp_path / MARK).mkdir()  # nothing that could be unlinked
    outcome = await Control(agent, tmp_path).undrain(progress=silent)
    assert not outcome.good
    assert outcome.reason.startswith("announcing again, but ")
    assert "the next start drains again" in outcome.reason
    assert agent.asked == ["undrain"]
