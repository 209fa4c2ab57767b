"""A small data set for the tests: questions to a town library, by the desk that answers them."""

from __future__ import annotations

import random

import dspy

TOPICS: dict[str, list[str]] = {
    "loans": [
        "Can I keep this novel two more weeks?",
        "My books are overdue, can I renew them online?",
        "How long may I borrow a film for?",
        "Please renew the three books on my card",
        "I want to extend the loan of a cookbook",
        "Is it possible to borrow more than ten books?",
        "When do I have to return the borrowed magazines?",
        "The return date of my loan has passed",
        "I'd like to prolong my borrowed audiobook",
        "Can somebody else return the books I borrowed?",
        "What is the maximum loan period of a novel?",
        "Renewing my loan fails with an error",
        "Do you charge for books returned late?",
        "I returned a book yesterday and it still shows as borrowed",
    ],
    "rooms": [
        "I would like to book a study room for Monday",
        "Is there a quiet room for four people free this afternoon?",
        "How do I cancel my room reservation?",
        "Does the meeting room have a projector?",
        "Can our group reserve the seminar room every Tuesday?",
        "Which study rooms have a whiteboard?",
        "The room I reserved is occupied by somebody",
        "How many people fit into the small meeting room?",
        "I need a room with a piano to practise",
        "May I eat in the study rooms?",
        "Until when can I use the reserved room?",
        "The heating in study room three is broken",
        "Please move my room booking to Friday",
        "What does it cost to rent the seminar room?",
    ],
    "machines": [
        "The printer on the second floor is out of paper",
        "How can I print from my phone?",
        "The scanner shows an error message",
        "Where can I photocopy a page in colour?",
        "The wifi password does not work on my laptop",
        "My computer cannot connect to the wifi",
        "Is there a scanner for slides and negatives?",
        "The copy machine swallowed my coins",
        "Printing costs how much per page?",
        "The computer in the corner does not start",
        "Can I plug in my laptop somewhere?",
        "The printer prints stripes over each page",
        "How do I scan a document to an email?",
        "The internet is slow on the public computers",
    ],
}
TRAIN = [(text, topic) for topic, texts in TOPICS.items() for text in texts[:9]]
TEST = [(text, topic) for topic, texts in TOPICS.items() for text in texts[9:]]
CODES = {"loans": "K4", "rooms": "Z9", "machines": "W1"}


def examples(rows: list[tuple[str, str]], shuffled: int | None = None) -> list[dspy.Example]:
    topics = [topic for _, topic in rows]
    if shuffled is not None:
        random.Random(shuffled).shuffle(topics)
    return [dspy.Example(message=t, desk=CODES[y]).with_inputs("message") for (t, _), y in zip(rows, topics, strict=True)]
