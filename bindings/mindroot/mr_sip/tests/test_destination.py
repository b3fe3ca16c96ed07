"""What may be dialled, and how it is written."""

from __future__ import annotations

import unittest

from mr_sip.destination import EMERGENCY_NUMBERS, normalize
from mr_sip.errors import DestinationRefused


class Destinations(unittest.TestCase):
    def test_a_sip_uri_stays_letter_by_letter_what_it_is(self) -> None:
        for uri in (
            "sip:user@domain.com",
            "sips:Alice.B-c@example.com:5061;transport=tcp",
            "sip:+15550100199@192.0.2.7",
            "tel:+1-555-010-0199",
            "SIP:100@[2001:db8::1]",
        ):
            self.assertEqual(normalize(uri), uri)

    def test_numbers_lose_their_dressing(self) -> None:
        self.assertEqual(normalize(" +1 (555) 010-0199 "), "+15550100199")
        self.assertEqual(normalize("555.010.0199"), "5550100199")
        self.assertEqual(normalize("*97"), "*97")
        self.assertEqual(normalize(5550100199), "5550100199")

    def test_names_and_addresses(self) -> None:
        self.assertEqual(normalize("alice"), "alice")
        self.assertEqual(normalize("alice@example.com"), "sip:alice@example.com")

    def test_emergency_numbers_are_never_dialled_however_they_are_dressed_up(self) -> None:
        for number in EMERGENCY_NUMBERS:
            for dressed in (
                number,
                f" {number} ",
                "-".join(number),
                " ".join(number),
                f"+{number}",
                f"{number}#",
                f"tel:{number}",
                f"tel:{number};phone-context=+1",
                f"sip:{number}@example.com",
                f"SIPS:{number}@example.com;user=phone",
                f"sip:{number}:secret@example.com",
                f"sip:%3{number[0]}{number[1:]}@example.com",
                f"{number}@example.com",
                "".join(chr(0xFF10 + int(digit)) for digit in number),
            ):
                with self.assertRaises(DestinationRefused, msg=dressed) as caught:
                    normalize(dressed)
                self.assertTrue(caught.exception.emergency, dressed)

    def test_numbers_that_only_contain_an_emergency_number_are_dialled(self) -> None:
        for number in ("+19115550100", "9112", "1120", "sip:911desk@example.com"):
            self.assertTrue(normalize(number))

    def test_case_45_line_breaks_and_nonsense_are_refused(self) -> None:
        for bad in (
            "",
            None,
            "  ",
            "sip:a@b\r\nVia: x",
            "sip:a b@c",
            "<sip:a@b>",
            "call my mother",
            "a" * 300,
            "sip:",
            "1\x002",
        ):
            with self.assertRaises(DestinationRefused, msg=repr(bad)) as caught:
                normalize(bad)
            self.assertFalse(caught.exception.emergency)


if __name__ == "__main__":
    unittest.main()
