"""The grammar says only what the vocabulary knows. Standard library only."""

import random
import unittest

import grammar
import templates
import vocabulary as v


class Vocabulary(unittest.TestCase):
    def test_words_are_distinct_and_row_zero_is_the_blank(self):
        self.assertEqual(len(v.WORDS), len(set(v.WORDS)))
        self.assertEqual(v.TEXTS[0], " ")
        self.assertNotIn("", v.ROW_OF_WORD)

    def test_rows_and_text_are_inverse(self):
        text = "my account number is four two seven one"
        self.assertEqual(v.text_of(v.rows_of(text)), text)

    def test_control_tokens_are_no_text(self):
        self.assertEqual(v.text_of([v.START, v.NO_TIMESTAMPS, v.ROW_OF_WORD["yes"], v.END_OF_TEXT]), "yes")

    def test_an_unknown_word_is_an_error(self):
        with self.assertRaises(KeyError):
            v.rows_of("antidisestablishmentarianism")

    def test_words_stay_clear_of_the_control_tokens_in_the_file(self):
        self.assertLess(v.TEXT_ROWS, min(v.FILE_ID_OF_CONTROL.values()))
        self.assertLess(max(v.FILE_ID_OF_CONTROL.values()), v.FILE_VOCABULARY)


class Grammar(unittest.TestCase):
    def test_every_word_of_every_template_is_known(self):
        for template in templates.CALLERS + templates.LATER:
            for part in template.split():
                self.assertTrue(part in grammar._SLOTS or part in v.ROW_OF_WORD, f"{part!r} in {template!r}")

    def test_every_slot_gives_known_words(self):
        rng = random.Random(1)
        for slot in grammar._SLOTS:
            for _ in range(300):
                for word in grammar.fill(slot, rng):
                    self.assertIn(word, v.ROW_OF_WORD, slot)

    def test_what_the_demonstration_says_is_sayable(self):
        for sentence in [
            "i would like to book an appointment for friday morning",
            "what are your hours",
            "my account number is four two seven one",
            "please transfer me to billing",
            "thank you goodbye",
        ]:
            self.assertEqual(len(v.rows_of(sentence)), len(sentence.split()))

    def test_letters_alone_are_none_that_sound_like_a_word(self):
        rng = random.Random(5)
        for _ in range(2000):
            letters = grammar.spelled(rng)
            self.assertTrue(len(letters) > 1 or letters[0] in v.PLAIN_LETTERS, letters)
            self.assertTrue(set(letters) <= set(v.LETTERS) | {"double"}, letters)

    def test_salads_have_no_letters_that_are_no_words(self):
        self.assertEqual([word for word in grammar.SALAD_WORDS if len(word) == 1], ["i", "a"])

    def test_a_seed_gives_the_same_utterances_again(self):
        said = [[grammar.utterance(random.Random(7)) for _ in range(2)] for _ in range(2)]
        self.assertEqual(said[0], said[1])

    def test_about_a_quarter_of_utterances_are_digits_alone(self):
        rng, digits = random.Random(3), set(v.DIGITS) | {"oh"}
        share = sum(set(grammar.utterance(rng)) <= digits for _ in range(3000)) / 3000
        self.assertTrue(0.22 < share < 0.35, share)


if __name__ == "__main__":
    unittest.main()
