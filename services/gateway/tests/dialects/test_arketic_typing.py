"""How often others are told that somebody types."""

from gateway.dialects.arketic.typing_pace import TYPING_S, TypingPace


def test_each_user_in_each_chat_is_told_of_once_in_a_while() -> None:
    pace = TypingPace()
    told = [
        (second, user)
        for second in (0.0, 0.5, 1.0, 1.25, 2.5)
        for user in ("ann", "bob")
        if pace.begin("chat", user, second * TYPING_S)
    ]
    assert told == [(second, user) for second in (0.0, 1.0, 2.5) for user in ("ann", "bob")]
    assert pace.begin("another chat", "ann", 2.6)


def test_what_nobody_was_told_does_not_count() -> None:
    pace = TypingPace()
    assert pace.begin("chat", "ann", 5.0)
    pace.forget("chat", "ann")
    assert pace.begin("chat", "ann", 5.0)
    assert not pace.begin("chat", "ann", 5.0)


def test_a_clock_that_was_set_back_silences_nobody() -> None:
    pace = TypingPace()
    assert pace.begin("chat", "ann", 5_000.0)
    assert pace.begin("chat", "ann", 5.0)
