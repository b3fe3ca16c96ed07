"""What callers say: a generator of telephone sentences over the model's vocabulary.

Four sorts of utterance, because each teaches something else:

* digit strings, the heaviest use of a telephone recogniser, and the one where a single error makes the answer worthless;
* sentences from templates, so that the decoder learns how words follow one another;
* names spelled, letter by letter;
* word salads, so that it does not learn that too well: a decoder that can guess stops listening.
"""

import templates
import vocabulary as v

DIGIT_SHARE = 0.24
SALAD_SHARE = 0.22
SPELLED_SHARE = 0.09
# Of the templates, those of months, money, ordinals, spelling, voicemail and listening: many words, so many utterances.
LATER_TEMPLATES_SHARE = 0.5

# Lengths of digit strings: single digits for menus, 3 to 6 for codes and orders, 7 and 10 for telephone numbers.
DIGIT_LENGTHS = [1, 1, 1, 2, 2, 3, 3, 4, 4, 4, 4, 5, 5, 6, 6, 7, 8, 9, 10, 10]

LONG_DIGIT_LENGTHS = [4, 4, 5, 6, 7, 7, 8, 9, 10, 10]

SALAD_LENGTHS = [1, 1, 1, 2, 3, 4, 5, 6]

SPELLED_LENGTHS = [1, 1, 2, 3, 3, 4, 4, 5, 5, 6, 7, 8]

# Random words out of any sentence. Not letters: those that sound like words cannot be told from them there.
SALAD_WORDS = [word for word in v.WORDS if len(word) > 1 or word in ("a", "i")]

# Names to spell: how letters follow one another in them. Random letters come as often.
NAMES = """smith jones taylor brown johnson williams miller davis garcia wilson moore anderson thomas jackson white harris
martin clark lewis robinson walker young allen king wright scott torres hill green adams baker nelson carter mitchell
james mary robert john jennifer michael linda david susan joseph sarah charles karen peter lisa daniel nancy paul emily
kevin george amanda brian edward alex zoe max quinn victor felix jack vera ivy hugo chloe wayne beth oxford zurich
""".split()

DEPARTMENTS = """sales|billing|support|technical support|an agent|the operator|a representative|a person|a human|the manager
|someone in sales|someone in billing""".replace("\n", "").split("|")

THINGS = """account bill card order phone internet password payment appointment delivery balance credit|address
refund name""".replace("|", " ").split()


def _digit_word(rng):
    """One digit; the zero is as often spoken `oh` as `zero`."""
    word = rng.choice(v.DIGITS)
    return rng.choice(["zero", "oh"]) if word == "zero" else word


def digit_string(rng, length):
    """`length` digits as spoken words."""
    return [_digit_word(rng) for _ in range(length)]


def _number(rng):
    """A number up to 999, as people say it."""
    kind = rng.random()
    if kind < 0.3:
        return [rng.choice(v.TEENS)]
    if kind < 0.7:
        return [rng.choice(v.TENS)] + ([rng.choice(v.DIGITS[1:])] if rng.random() < 0.7 else [])
    if kind < 0.85:
        joint = ["and"] if rng.random() < 0.3 else []
        rest = [rng.choice(v.TENS)] if rng.random() < 0.6 else []
        return [rng.choice(v.DIGITS[1:]), "hundred"] + (joint + rest if rest else [])
    return [rng.choice(v.DIGITS[1:])]


def _time_of_day(rng):
    """An hour, sometimes with a half or a quarter, often with am or pm."""
    hour = [rng.choice(v.DIGITS[1:] + v.TEENS[:3])]
    minutes = [rng.choice(["thirty", "fifteen"])] if rng.random() < 0.3 else []
    half = [rng.choice(["am", "pm"])] if rng.random() < 0.6 else []
    return hour + minutes + half


def _ordinal(rng):
    """First to thirty first, half of the time one of a single word."""
    if rng.random() < 0.3:
        return [rng.choice(["twenty", "twenty", "thirty"]), rng.choice(v.ORDINALS[:9])]
    return [rng.choice(v.ORDINALS)]


def _date(rng):
    """A month and a day, in either order."""
    month, day = [rng.choice(v.MONTHS)], _ordinal(rng)
    kind = rng.random()
    if kind < 0.6:
        return month + day
    if kind < 0.75:
        return month + ["the"] + day
    return ["the"] + day + ["of"] + month


def _year(rng):
    """A year of somebody's life, in words."""
    if rng.random() < 0.6:
        return ["nineteen", rng.choice(v.TENS)] + ([rng.choice(v.DIGITS[1:])] if rng.random() < 0.8 else [])
    if rng.random() < 0.5:
        return ["two", "thousand"] + ([rng.choice(v.DIGITS[1:])] if rng.random() < 0.8 else [])
    return ["twenty"] + ([rng.choice(v.TEENS)] if rng.random() < 0.5 else ["twenty", rng.choice(v.DIGITS[1:8])])


def _thousands(rng):
    """A number of thousands, sometimes with hundreds."""
    hundreds = [rng.choice(v.DIGITS[1:]), "hundred"] if rng.random() < 0.4 else []
    return (_number(rng) if rng.random() < 0.4 else [rng.choice(v.DIGITS[1:])]) + ["thousand"] + hundreds


def _money(rng):
    """A sum of money."""
    kind = rng.random()
    if kind < 0.08:
        return [rng.choice(["one", "a"]), rng.choice(["dollar", "pound", "euro", "cent"])]
    if kind < 0.2:
        return _number(rng) + ["cents"]
    amount = _thousands(rng) if kind < 0.35 else _number(rng)
    amount = amount + [rng.choice(["dollars", "dollars", "dollars", "pounds", "euros"])]
    if kind > 0.65:
        amount += (["and"] if kind > 0.85 else []) + [
            rng.choice(v.TENS),
            rng.choice(["cents", rng.choice(v.DIGITS[1:])]),
        ]
    return amount


def spelled(rng):
    """Letters: of a name, or any."""
    if rng.random() < 0.5:
        letters = list(rng.choice(NAMES))
    else:
        letters = [rng.choice(v.LETTERS) for _ in range(rng.choice(SPELLED_LENGTHS))]
    # A letter alone is one that no word sounds like.
    letters = letters if len(letters) > 1 else [rng.choice(v.PLAIN_LETTERS)]
    for at in range(1, len(letters)):
        # Never "double u", which is a letter of its own.
        if letters[at] == letters[at - 1] != "u" and rng.random() < 0.3:
            return letters[: at - 1] + ["double"] + letters[at:]
    return letters


_SLOTS = {
    "{dept}": lambda rng: rng.choice(DEPARTMENTS).split(),
    "{thing}": lambda rng: [rng.choice(THINGS)],
    "{day}": lambda rng: [rng.choice(v.DAYS + ["tomorrow", "today"])],
    "{part}": lambda rng: [rng.choice(v.DAY_PARTS)],
    "{time}": _time_of_day,
    "{digit}": lambda rng: [rng.choice(v.DIGITS)],
    "{number}": _number,
    "{digits}": lambda rng: digit_string(rng, rng.choice([3, 4, 4, 5, 6, 7, 8])),
    "{digits4}": lambda rng: digit_string(rng, 4),
    "{phone}": lambda rng: digit_string(rng, rng.choice([7, 7, 10])),
    "{word}": lambda rng: [rng.choice(SALAD_WORDS)],
    "{hour}": lambda rng: [rng.choice(v.DIGITS[1:] + v.TEENS[:3])],
    "{month}": lambda rng: [rng.choice(v.MONTHS)],
    "{ordinal}": _ordinal,
    "{date}": _date,
    "{year}": _year,
    "{thousands}": _thousands,
    "{money}": _money,
    "{letter}": lambda rng: [rng.choice(v.PLAIN_LETTERS)],
    "{spelled}": spelled,
}


def fill(template, rng):
    """Words of one sentence made from `template`."""
    return [word for part in template.split() for word in (_SLOTS[part](rng) if part in _SLOTS else [part])]


def digits(rng):
    """An utterance of digits alone."""
    return digit_string(rng, rng.choice(DIGIT_LENGTHS))


def long_digits(rng):
    """Digits alone, as many as codes, accounts and telephone numbers have."""
    return digit_string(rng, rng.choice(LONG_DIGIT_LENGTHS))


def utterance(rng):
    """Words of one utterance; `rng` is a `random.Random`, so that a seed gives the same corpus again."""
    kind = rng.random()
    if kind < DIGIT_SHARE:
        return digits(rng)
    if kind < DIGIT_SHARE + SALAD_SHARE:
        return [rng.choice(SALAD_WORDS) for _ in range(rng.choice(SALAD_LENGTHS))]
    if kind < DIGIT_SHARE + SALAD_SHARE + SPELLED_SHARE:
        return spelled(rng)
    later = rng.random() < LATER_TEMPLATES_SHARE
    return fill(rng.choice(templates.LATER if later else templates.CALLERS), rng)
