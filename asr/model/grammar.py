"""What callers say: a generator of telephone sentences over the model's vocabulary.

Three sorts of utterance, because each teaches something else:

* digit strings, the heaviest use of a telephone recogniser, and the one where a single error makes the answer worthless;
* sentences from templates, so that the decoder learns how words follow one another;
* word salads, so that it does not learn that too well: a decoder that can guess stops listening.
"""

import vocabulary as v

DIGIT_SHARE = 0.33
SALAD_SHARE = 0.17

# Lengths of digit strings: single digits for menus, 3 to 6 for codes and orders, 7 and 10 for telephone numbers.
DIGIT_LENGTHS = [1, 1, 1, 2, 2, 3, 3, 4, 4, 4, 4, 5, 5, 6, 6, 7, 8, 9, 10, 10]

LONG_DIGIT_LENGTHS = [4, 4, 5, 6, 7, 7, 8, 9, 10, 10]

SALAD_LENGTHS = [1, 1, 2, 3, 4, 5, 6]

DEPARTMENTS = """sales|billing|support|technical support|an agent|the operator|a representative|a person|a human|the manager
|someone in sales|someone in billing""".replace("\n", "").split("|")

THINGS = """account bill card order phone internet password payment appointment delivery balance credit|address
refund name""".replace("|", " ").split()

# {slots} are filled by `_SLOTS`; every other word must be in the vocabulary (a test holds that).
TEMPLATES = """
yes
no
yeah
yep
nope
okay
sure
hello
hi
help
operator
agent
representative
goodbye
bye
thank you
thanks
cancel
stop
wait
correct
wrong
pardon
what
sorry what
great thank you
perfect thanks
that is fine
that's right
that is right
that is not correct
yes please
no thank you
no thanks
yes it is
no it is not
yes that is correct
no that is wrong
i don't know
i do
i do not
yes i can
no i can not
okay
okay thank you
okay thank you bye
thank you goodbye
thank you goodbye
thank you so much
thanks bye
good morning
good afternoon
good evening
hello good {part}
hello
hello is someone there
hello who is this
hello can you hear me
can you hear me
can you hear me now
i can hear you
i can not hear you
hello i need help
hello i would like to book an appointment
hi i need to speak with {dept}
how are you
i am fine thank you
repeat that please
can you repeat that
could you repeat that please
please say that again
what was that
sorry i do not know
sorry can you say that again
let me check
hold on
hold on a minute
please hold
wait a minute
one minute please
one moment please
i'm on hold
call me back later
can you call me back tomorrow {part}
can you call me back at {time}
let me talk to someone
i want to speak with a human
i would like to speak with {dept}
i'd like to talk to {dept}
can i speak to {dept} please
i need to talk to a representative
transfer me to {dept}
please transfer me to {dept}
please transfer me to {dept}
please transfer me to billing
can you transfer me to {dept} please
could you transfer my call to {dept}
{dept} please
i need help with my {thing}
i have a {thing}
my {thing} is not working
my {thing} is wrong
i want to check my {thing}
what is the status of my {thing}
check my account balance
what is my balance
what is my account balance
i want to pay my bill
pay my bill please
how do i pay my bill
i would like to make a payment
i'd like to make a payment
i lost my card
i lost my password
reset my password please
how do i reset my password
i need to reset my password
i want to cancel my order
cancel my appointment
cancel my appointment on {day}
i need to cancel my appointment on {day}
i would like to cancel my appointment for {day} {part}
i would like to book an appointment
i would like to book an appointment for {day}
i would like to book an appointment for {day} {part}
i would like to book an appointment for {day} {part}
i'd like to book an appointment for {day}
i'd like to book an appointment for {day} at {time}
i want to book an appointment on {day}
i need an appointment for {day} {part}
book an appointment for {day} at {time}
make an appointment for {day} {part}
can i make an appointment for {day}
can i change my appointment to {day}
change it to {day} at {time}
schedule it for {day} {part}
can i have {day} at {time}
{day}
{day} please
next {day}
{day} {part}
{day} {part} please
{day} at {time}
{day} {part} at {time}
on {day}
on {day} {part}
tomorrow {part}
tomorrow at {time}
today at {time}
next week
next week on {day}
in the {part}
this {part}
at {time}
{time}
{time} please
what time is it
what time is my appointment
when is my appointment
when can i call back
where are you
where is my order
where is my delivery
why was my order closed
what are your hours
what are your hours
what are your hours today
what are your hours on {day}
what time do you open
what time do you close
when do you open on {day}
are you open
are you open on {day}
are you open now
are you closed on {day}
will you open tomorrow
is someone there
who is this
who is there
main menu
main menu please
press {digit}
press star
press pound
press {digit} for {dept}
my account number is {digits4}
my account number is {digits4}
my account number is {digits}
account number {digits}
the account number is {digits}
my phone number is {phone}
phone number {phone}
my number is {phone}
call me at {phone}
the number is {digits}
my order number is {digits}
order number {digits}
my card number is {digits}
it's {digits}
it is {digits}
yes it's {digits}
my password is {digits4}
number {digit}
number {number}
{number}
{number} {number}
{number} and {number}
{digit} or {digit}
double {digit}
{digit} double {digit} {digit}
one hundred and {number}
{number} days
{number} hours
{number} minute
have a good day
are you here today
how much is it
how much do i pay
how much is my bill
i want a refund
i would like a refund please
i want to return my order
i need to return this
does it have my name on it
is my name on the account
what is my name
change my address please
my name is not right
it's the wrong number
i have the wrong number
you have the wrong number
you are wrong
stop
stop stop
no no
yes yes
i'm sorry
i need technical support
my internet is not working
my phone is not working
do you know my name
can you help me
could you help me please
what do you want
what can i do
that is all
that is all thank you
that was all thanks
this is a test
testing one two three
test
i said {word}
i said {digit}
from {day} to {day}
from {time} to {time}
by {day}
by {day} {part}
""".strip().split("\n")


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
    "{word}": lambda rng: [rng.choice(v.WORDS)],
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
        return [rng.choice(v.WORDS) for _ in range(rng.choice(SALAD_LENGTHS))]
    return fill(rng.choice(TEMPLATES), rng)
