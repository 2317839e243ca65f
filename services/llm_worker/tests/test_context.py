"""What a model is asked."""

from chat.messages import AnswerSettings, Role
from llm_worker.context import Said, choose_persona, question_of_turn
from llm_worker.conversation import line, merge
from llm_worker.settings import Persona

PERSONA = Persona("Be kind.", 0.5, 100, "assistant")
USER, ASSISTANT, SYSTEM = Role.USER, Role.ASSISTANT, Role.SYSTEM


def ask(*messages: Said, settings: AnswerSettings = AnswerSettings(), max_tokens: int = 1000):  # noqa: B008
    return question_of_turn(settings, PERSONA, messages, max_tokens=max_tokens)


def test_a_turn_asks_its_persona_the_conversation() -> None:
    question = ask(Said(USER, "hi"), Said(ASSISTANT, "hello"), Said(USER, "more"))
    assert question.lines == (line(USER, "hi"), line(ASSISTANT, "hello"), line(USER, "more"))
    assert question.system_prompt == "Be kind."
    assert (question.temperature, question.max_output_tokens) == (0.5, 100)


def test_the_turns_own_settings_win_over_the_persona() -> None:
    settings = AnswerSettings(system_prompt="Be brief.", temperature=0.0, max_output_tokens=7)
    question = ask(Said(USER, "hi"), settings=settings)
    assert (question.system_prompt, question.temperature, question.max_output_tokens) == ("Be brief.", 0.0, 7)


def test_answers_that_failed_or_never_began_are_left_out_and_the_questions_around_them_merged() -> None:
    question = ask(
        Said(USER, "one"),
        Said(ASSISTANT, "half an ans", failed=True),
        Said(USER, "two"),
        Said(ASSISTANT, ""),
        Said(USER, "three"),
    )
    assert question.lines == (line(USER, "one\n\ntwo\n\nthree"),)


def test_an_answer_that_was_stopped_is_part_of_the_conversation() -> None:
    question = ask(Said(USER, "one"), Said(ASSISTANT, "half"), Said(USER, "two"))
    assert [each.text for each in question.lines] == ["one", "half", "two"]


def test_instructions_in_the_chat_join_the_system_prompt() -> None:
    question = ask(Said(SYSTEM, "Rhyme."), Said(USER, "hi"))
    assert question.system_prompt == "Be kind.\n\nRhyme."
    assert question.lines == (line(USER, "hi"),)


def test_a_blank_message_is_asked_all_the_same() -> None:
    assert ask(Said(USER, " ")).lines == (line(USER, " "),)


def test_lines_of_one_role_are_merged() -> None:
    assert merge([line(USER, "a"), line(USER, "b"), line(ASSISTANT, "c")]) == (
        line(USER, "a\n\nb"),
        line(ASSISTANT, "c"),
    )


def test_the_persona_is_the_one_asked_for_then_the_dialects_then_the_default() -> None:
    other = Persona("", 1, 0, "")
    personas = {"default": PERSONA, "faye": other, "pirate": other}
    assert choose_persona(personas, AnswerSettings(persona="pirate"), "x") is other
    assert choose_persona(personas, AnswerSettings(persona="gone"), "faye") is other
    assert choose_persona(personas, AnswerSettings(), "faye") is other
    assert choose_persona(personas, AnswerSettings(), "x") is PERSONA
