//! The crossing between the 8 kHz clock of a call and another running clock.
