"""How the end of a container is read from the engine's events."""

from orchestrator.deploys.stops import STOP_WORD_TIMEOUT, End, Stops


def heard(*actions: str) -> Stops:
    stops = Stops()
    for action in actions:
        stops.hear(action, "c", 100.0)
    return stops


def test_one_that_ends_by_itself_died() -> None:
    assert heard("start", "die").end("c", 100.0) is End.DIED
    assert heard().end("c", 100.0) is End.DIED


def test_one_that_was_stopped_is_known_by_the_word_that_follows_its_end() -> None:
    assert heard("start", "kill", "die").end("c", 100.0) is End.UNKNOWN
    assert heard("start", "kill", "die", "stop").end("c", 100.0) is End.STOPPED


def test_one_that_was_killed_died_when_that_word_does_not_follow() -> None:
    assert heard("start", "kill", "die").end("c", 100.0 + STOP_WORD_TIMEOUT) is End.DIED


def test_one_whose_end_is_seen_before_it_is_told_is_waited_for() -> None:
    stops = heard("start", "kill")
    assert stops.end("c", 200.0) is End.UNKNOWN
    assert stops.end("c", 200.0 + STOP_WORD_TIMEOUT) is End.DIED


def test_one_that_was_started_since_has_no_past() -> None:
    assert heard("start", "kill", "die", "stop", "start").end("c", 100.0) is End.DIED
    assert heard("start", "kill", "die", "stop", "destroy").end("c", 100.0) is End.DIED


def test_what_an_engine_said_before_it_went_away_was_about_its_own_end() -> None:
    stops = heard("start", "kill", "die", "stop")
    stops.lose()
    assert stops.end("c", 100.0) is End.DIED


def test_what_an_engine_ends_that_comes_back_was_not_stopped_on_purpose() -> None:
    """It says so of what it finds running after it was killed, and did not start itself."""
    stops = Stops()
    for action in ("kill", "die", "stop"):
        stops.hear(action, "c", 100.0)
    assert stops.end("c", 100.0) is End.DIED


def test_one_that_was_seen_running_needs_no_start_that_was_heard() -> None:
    stops = Stops()
    stops.see_running("c")
    stops.hear("kill", "c", 100.0)
    stops.hear("stop", "c", 100.0)
    assert stops.end("c", 100.0) is End.STOPPED
