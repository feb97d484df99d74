"""When a container that does not stay up is started again."""

from orchestrator.deploys.backoff import FIRST_PAUSE, LAST_PAUSE, STABLE_AFTER, RestartBackoff


def test_the_first_start_is_at_once_and_each_pause_is_longer_up_to_the_last() -> None:
    backoff = RestartBackoff()
    now = 1000.0
    assert backoff.due_at("app") <= now
    pauses = []
    for _ in range(9):
        backoff.note_start("app", now)
        pauses.append(backoff.due_at("app") - now)
        now = backoff.due_at("app")
    assert pauses[:4] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE, 8 * FIRST_PAUSE]
    assert pauses[-1] == LAST_PAUSE


def test_one_that_stayed_up_begins_anew() -> None:
    backoff = RestartBackoff()
    for now in (0.0, 1.0, 3.0):
        backoff.note_start("app", now)
    later = 3.0 + STABLE_AFTER + LAST_PAUSE + 1.0
    backoff.note_start("app", later)
    assert backoff.due_at("app") == later + FIRST_PAUSE


def test_apps_are_apart() -> None:
    backoff = RestartBackoff()
    backoff.note_start("one", 5.0)
    assert backoff.due_at("other") == 0.0
