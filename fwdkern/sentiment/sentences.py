"""Short reviews of the project's own, put together from words whose judgement is known."""

import random
from typing import NamedTuple

from fwdkern.sentiment.vocabulary import split

_GOOD = """
    affecting amazing amusing beautiful bold bright brilliant captivating charming clever compelling convincing crisp
    delicate delightful delicious dazzling elegant enchanting engaging enjoyable entertaining excellent exciting
    fascinating fine flawless fresh fun funny generous gentle good gorgeous graceful great gripping haunting heartfelt
    hilarious honest human imaginative impressive ingenious inspired intelligent intense inventive joyful lively
    likeable lovely luminous magical masterful memorable moving nuanced original passionate perceptive perfect playful
    pleasant poetic powerful precise profound refreshing remarkable rewarding rich riveting satisfying sensitive sharp
    sincere smart solid sophisticated spectacular splendid stirring striking strong stunning stylish sublime subtle
    superb surprising suspenseful sweet tender terrific thoughtful thrilling touching unforgettable uplifting vivid
    warm wise witty wonderful
""".split()
_BAD = """
    absurd aimless amateurish annoying appalling artificial awful awkward bad banal bland bloated boring careless
    cheap cheerless chaotic cliched clumsy cold confused contrived crude cynical dated dead depressing derivative
    dim disappointing dismal disposable dreadful dreary dry dull embarrassing empty exhausting flat flawed foolish
    forced forgettable formulaic frustrating generic grating grim half-baked heavy-handed hollow hopeless horrible
    humourless inane incoherent indifferent inept insulting irritating joyless laboured lame lazy lifeless listless
    loud manipulative mediocre mean-spirited messy mindless miserable monotonous muddled numbing obvious overlong
    painful pale pathetic plodding pointless poor predictable pretentious repetitive ridiculous routine sappy shallow
    silly slow sluggish stale stiff stupid sloppy tasteless tedious terrible thin tired tiresome tiring trite
    unconvincing uneven unfunny uninspired unpleasant vapid wasted weak wooden worthless
""".split()
_THINGS = """
    acting action cast camera character comedy debut dialogue direction documentary drama editing ending fable film
    humour idea journey love lead movie music narrative opening pace performance picture plot portrait premise romance
    satire scene score screenplay script second sequel show story style tale thriller voice western work
""".split()
_PEOPLE = ["the director", "the cast", "the writer", "the lead", "the camera", "the film", "the movie", "the story"]
_GOOD_DOES = [
    "never loses its way", "holds your attention", "makes you laugh", "stays with you", "gets everything right",
    "earns every tear", "works beautifully", "deserves to be seen", "finds real feeling", "surprises until the end",
    "is a pleasure to watch", "is worth your time", "moves with grace", "wins you over", "lifts the spirit",
]  # fmt: skip
_BAD_DOES = [
    "loses its way", "tries your patience", "puts you to sleep", "goes nowhere", "gets everything wrong",
    "wastes a good idea", "falls apart", "deserves to be forgotten", "fakes every feeling", "drags until the end",
    "is a chore to sit through", "is a waste of time", "runs out of ideas", "misses every chance", "bores everyone",
]  # fmt: skip
_LIKE = "adore adored admired enjoyed like liked love loved recommend treasured".split()
_DISLIKE = "despised detest disliked dreaded endured hate hated loathed regret regretted".split()
_BEST = "best finest freshest funniest greatest loveliest smartest warmest".split()
_WORST = "dullest emptiest laziest silliest slowest ugliest weakest worst".split()
_AGES = ["the year", "the season", "all time", "its kind", "this summer"]
_IS = ["is", "is", "was", "feels", "seems", "looks"]
_STRONG = ["", "", "", "very", "truly", "really", "utterly", "remarkably", "quite", "so", "too often", "deeply"]
_NOT = ["not", "never", "hardly", "far from", "anything but"]
_FRAMES = ["", "", "", "in the end ,", "to be fair ,", "for all that ,", "from start to finish ,", "this time ,"]
_CLOSINGS = ["", "", ".", ".", "!", "and that is all", ", and it shows", "for two hours"]


class Example(NamedTuple):
    """One split sentence and its class: 0 negative, 1 positive."""

    tokens: list[str]
    label: int


def own_sentences(count: int, seed: int) -> list[Example]:
    """Draw `count` different sentences, as many good as bad ones; the same seed draws the same.

    The judgement lies in single words, in what a negation turns around, and in the half behind a "but".
    """
    draw = random.Random(seed)
    found: dict[str, int] = {}
    while len(found) < count:
        label = len(found) % 2
        found.setdefault(_sentence(draw, label), label)
    return [Example(split(text), label) for text, label in found.items()]


def _sentence(draw: random.Random, label: int) -> str:
    clause = _clause(draw, label)
    if draw.random() < 0.25:
        clause = f"{_clause(draw, 1 - label)} , but {clause}"
    return " ".join(f"{draw.choice(_FRAMES)} {clause} {draw.choice(_CLOSINGS)}".split())


def _clause(draw: random.Random, label: int) -> str:
    thing, verb = draw.choice(_THINGS), draw.choice(_IS)
    match draw.randrange(9):
        case 0:
            return f"{_article(draw)} {_judged(draw, label)} {thing}"
        case 1:
            return f"{_article(draw)} {_judged(draw, label)} , {_word(draw, label)} {thing}"
        case 2:
            return f"the {thing} {verb} {_judged(draw, label)} and {_word(draw, label)}"
        case 3:
            return f"{draw.choice(_PEOPLE)} {draw.choice(_GOOD_DOES if label else _BAD_DOES)}"
        case 4:
            return f"the {thing} {verb} {draw.choice(_NOT)} {_word(draw, 1 - label)}"
        case 5:
            return f"{draw.choice(['', 'it is', 'this was'])} {draw.choice(_NOT)} a {_word(draw, 1 - label)} {thing}"
        case 6:
            return f"i {draw.choice(_LIKE if label else _DISLIKE)} {draw.choice(['the', 'this', 'every'])} {thing}"
        case 7:
            return f"the {draw.choice(_BEST if label else _WORST)} {thing} of {draw.choice(_AGES)}"
        case _:
            return f"{_judged(draw, label)} and {_judged(draw, label)}"


def _article(draw: random.Random) -> str:
    return draw.choice(["a", "the", "this", "this is a", "it is a", "what a", "here is a"])


def _judged(draw: random.Random, label: int) -> str:
    """A judging word, at times made stronger or turned around."""
    if draw.random() < 0.12:
        return f"{draw.choice(_NOT)} {_word(draw, 1 - label)}"
    return f"{draw.choice(_STRONG)} {_word(draw, label)}".strip()


def _word(draw: random.Random, label: int) -> str:
    return draw.choice(_GOOD if label else _BAD)
