//! The demo's agent: a few rules instead of a language model, so that the demo needs nothing but this repository.

use super::score::words;

/// What the agent says first.
pub const GREETING: &str = "Hello, this is the demo agent. How can I help you?";

const DIGITS: [&str; 10] = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];

/// What the agent does after the caller's turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// What it says.
    pub text: String,
    /// Whether it hangs up after that.
    pub then_hang_up: bool,
}

/// Answers what was understood of the caller's turn.
pub fn reply(understood: &str) -> Reply {
    let heard = words(understood);
    let said = |word: &str| heard.iter().any(|other| other == word);
    let digits: Vec<&str> = DIGITS.into_iter().filter(|digit| said(digit)).collect();
    let text = if said("goodbye") || said("bye") {
        "Thank you for calling. Goodbye.".to_owned()
    } else if !digits.is_empty() {
        let spoken: Vec<&str> = heard.iter().map(String::as_str).filter(|word| DIGITS.contains(word)).collect();
        format!("Thank you. I have account number {}.", spoken.join(", "))
    } else if said("appointment") {
        "Friday morning is free. What is your account number?".to_owned()
    } else {
        "Sorry, could you say that again, please?".to_owned()
    };
    Reply { text, then_hang_up: said("goodbye") || said("bye") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_number_is_repeated_digit_by_digit() {
        assert_eq!(
            reply("my account number is four two seven one").text,
            "Thank you. I have account number four, two, seven, one."
        );
    }

    #[test]
    fn goodbye_ends_the_call_and_nonsense_does_not() {
        assert!(reply("thank you goodbye").then_hang_up);
        assert!(!reply("hm").then_hang_up);
    }
}
