"""The words the model knows, and the numbers they have in the file.

One token is one whole word. A general Whisper model splits text into 50,000 byte pairs; a telephone demonstration needs
fewer than 300 words, and whole words let a very small decoder spell everything right.

Two numberings exist side by side:

* a *row* is a token's place in the trained embedding: words first, then the five control tokens;
* an *id* is what whisper.cpp sees. A word's id is its row. The control tokens have fixed ids, because whisper.cpp derives
  them from the vocabulary's size, and takes a model for English-only exactly when that size is 51,864.

Row 0 is a lone blank: whisper.cpp looks it up by its text to forbid empty answers, and it is never a word.
"""

DIGITS = "zero one two three four five six seven eight nine".split()
TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
DAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
DAY_PARTS = "morning afternoon evening".split()
MONTHS = "january february march april may june july august september october november december".split()
ORDINALS = """first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth
sixteenth seventeenth eighteenth nineteenth twentieth thirtieth""".split()
MONEY = "dollar dollars cent cents pound pounds euro euros thousand".split()

# A letter of a spelled name is written as the letter. `a` and `i` are also words: one token, two sounds or uses. `o` is the
# letter among letters; the zero that sounds the same is `oh`, and so is an O that stands alone. `u`, `r` and `y` that stand
# alone are heard as `you`, `are` and `why`.
LETTERS = "a b c d e f g h i j k l m n o p q r s t u v w x y z".split()
# The letters that no word of the vocabulary sounds like: these can be heard alone.
PLAIN_LETTERS = [letter for letter in LETTERS if letter not in "aioruy"]

# What shows that somebody listens. Hums come first to mind and last to a synthesiser; see `synthesise`.
LISTENING = "uh-huh mhm mm".split()
HUMS = ["mhm", "mm"]

# Everything else, by what it is used for. `oh` is the spoken zero.
OTHER_WORDS = """
oh hundred double and number star pound press
yes yeah yep no nope okay sure correct right wrong
hello hi good morning afternoon evening goodbye bye thank thanks you please sorry pardon great perfect fine
i i'd i'm it it's is am are was do does don't not can could would will have has want need like know
me let my your we what when where who how why there here that this the a an of at on in for to from with and or by
day days time today tomorrow pm minute moment hours week next later now back much so all
help operator agent representative person human someone manager speak talk transfer call phone hold wait stop
cancel repeat again say said hear name address account order card credit bill billing sales support technical
appointment book make change schedule check balance pay payment delivery refund return status password reset
that's lost internet working open close closed main menu test testing
leave message after tone beep available mailbox reached voicemail important calling us try line did
spell last date birth year month half past quarter yesterday minutes o'clock email dot dash
""".split()

BLANK = " "


def _spoken_words():
    """All words in a fixed order, each once: the order is part of the shipped file."""
    listed = DIGITS + TEENS + TENS + DAYS + OTHER_WORDS + MONTHS + ORDINALS + MONEY + LETTERS + LISTENING
    return list(dict.fromkeys(listed))


WORDS = _spoken_words()

# Text of every row that is text. Words carry their leading blank, as in Whisper's own vocabulary.
TEXTS = [BLANK] + [" " + word for word in WORDS]

ROW_OF_WORD = {word: row for row, word in enumerate(WORDS, start=1)}

TEXT_ROWS = len(TEXTS)
END_OF_TEXT, START, NO_TIMESTAMPS, NO_SPEECH, PREVIOUS = range(TEXT_ROWS, TEXT_ROWS + 5)
ROWS = TEXT_ROWS + 5

# whisper.cpp reads this size as "English only".
FILE_VOCABULARY = 51864

# The ids that whisper.cpp gives the control tokens of an English-only model.
FILE_ID_OF_CONTROL = {
    END_OF_TEXT: 50256,
    START: 50257,
    PREVIOUS: 50360,
    NO_SPEECH: 50361,
    NO_TIMESTAMPS: 50362,
}


def rows_of(text):
    """Rows of the words of `text`. Raises `KeyError` on a word that the model does not have."""
    return [ROW_OF_WORD[word] for word in text.split()]


def text_of(rows):
    """The words of `rows`, control tokens and the blank left out."""
    return " ".join(TEXTS[row].strip() for row in rows if 0 < row < TEXT_ROWS)
