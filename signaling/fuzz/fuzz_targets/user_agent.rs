#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mr_sip_signaling_fuzz::user_agent(data));
